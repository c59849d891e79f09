"""What `workspace.yaml` loads: `defs`, built from this process's settings."""

from assetgen_pipeline.defs.build import build_definitions
from assetgen_pipeline.settings import load_settings

defs = build_definitions(load_settings())
