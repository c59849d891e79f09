"""Dagster's `GCSResource`, without the rest of its library.

`dagster_gcp/__init__.py` imports BigQuery, Dataproc and pandas: 50 MB and over a second in
every process of ours, for nothing. Its submodules need none of that, so the package stands
empty until somebody asks it for something else, and is then loaded whole.
"""

import importlib
import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any

from dagster_shared.libraries import DagsterLibraryRegistry

if TYPE_CHECKING:
    from dagster_gcp.gcs.resources import GCSResource

__all__ = ["GCSResource"]

_PACKAGE = "dagster_gcp"


def _stand_empty(spec: ModuleSpec) -> ModuleType:
    """The package as importing it finds it, but for what its `__init__` does."""
    package = module_from_spec(spec)

    def load(name: str) -> Any:  # noqa: ANN401 - whatever the package holds
        loader = spec.loader
        if loader is None or (name.startswith("__") and name.endswith("__")):
            raise AttributeError(name)
        del package.__dict__["__getattr__"]
        loader.exec_module(package)
        return getattr(package, name)

    package.__dict__["__getattr__"] = load
    return package


def _load() -> Any:  # noqa: ANN401 - a class that only the type checker sees
    spec = find_spec(_PACKAGE) if _PACKAGE not in sys.modules else None
    if spec is not None:
        sys.modules[_PACKAGE] = _stand_empty(spec)
        version = importlib.import_module(f"{_PACKAGE}.version").__version__
        DagsterLibraryRegistry.register("dagster-gcp", version)
    return importlib.import_module(f"{_PACKAGE}.gcs.resources").GCSResource


if not TYPE_CHECKING:
    GCSResource = _load()
