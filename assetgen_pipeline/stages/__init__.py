"""What one step of a batch does, written against ports."""
