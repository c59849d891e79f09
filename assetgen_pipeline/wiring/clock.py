"""The clock."""

from assetgen_pipeline.ports.clock import Clock


def open_clock() -> Clock:
    """The system's clock."""
    from assetgen_pipeline.adapters.system_clock import SystemClock

    return SystemClock()
