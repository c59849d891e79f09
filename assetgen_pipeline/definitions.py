"""What `workspace.yaml` loads: `defs`, built from this process's settings."""

import logging

from assetgen_pipeline.defs.build import build_definitions
from assetgen_pipeline.settings import load_settings
from assetgen_pipeline.wiring.logs import configure_logs

configure_logs(level=logging.INFO)
defs = build_definitions(load_settings())
