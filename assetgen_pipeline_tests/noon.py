"""A time zone where it is about noon, so that no budget day ends amid a test on the real clock."""

import os
from datetime import UTC, datetime


def _zone(hour):
    """The zone where it is noon when it is this hour in UTC; the names count westwards."""
    return f"Etc/GMT{hour - 12:+d}"


# Child processes inherit it: the hour may turn before they look, and all must go by one day.
NOON_ZONE = os.environ.setdefault("NOON_ZONE", _zone(datetime.now(UTC).hour))  # noqa: TID251
