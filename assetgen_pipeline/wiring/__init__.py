"""The composition root: settings in, adapters out.

Adapters are imported by the function that opens them, so that `assetgen --help` loads
neither Google nor Pillow. Everything opened here is closed by the context that opened it.
"""
