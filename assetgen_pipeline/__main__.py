"""`assetgen` and `python -m assetgen_pipeline`."""

from assetgen_pipeline.cli.app import main

if __name__ == "__main__":
    main()
