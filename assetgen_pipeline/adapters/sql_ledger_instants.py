"""Instants as the ledger keeps them: whole microseconds since 1970, exactly."""

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_us(instant: datetime) -> int:
    """Whole microseconds since 1970, exactly."""
    return (instant - EPOCH) // timedelta(microseconds=1)


def from_us(microseconds: int) -> datetime:
    """The instant, aware, UTC."""
    return EPOCH + timedelta(microseconds=microseconds)
