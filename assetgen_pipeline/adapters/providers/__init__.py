"""Image providers: each turns one request into one image."""
