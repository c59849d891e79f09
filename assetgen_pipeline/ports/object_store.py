"""The bucket."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectInfo:
    """One object of the bucket, without its bytes."""

    name: str
    generation: int
    size: int
    content_type: str
    updated_at: datetime
    metadata: Mapping[str, str]


class ObjectStore(ABC):
    """The bucket. All calls block; every failure to reach it is `StorageUnavailable`."""

    bucket: str

    @abstractmethod
    def read(self, name: str, *, generation: int | None = None) -> bytes:
        """The object's bytes as stored, never decompressed.

        Raises:
            ObjectMissing: no such object, or not at that generation.
        """

    @abstractmethod
    def stat(self, name: str) -> ObjectInfo | None:
        """The object's description, or `None`."""

    @abstractmethod
    def create(
        self, name: str, data: bytes, *, content_type: str, metadata: Mapping[str, str] = {}
    ) -> ObjectInfo:
        """Upload an object that must not exist yet.

        Raises:
            ObjectExists: it does; nothing was changed.
        """

    @abstractmethod
    def write(
        self,
        name: str,
        data: bytes,
        *,
        content_type: str,
        metadata: Mapping[str, str] = {},
        if_generation: int | None = None,
    ) -> ObjectInfo:
        """Upload a new generation of an object, created where absent.

        Raises:
            ObjectChanged: `if_generation` is given and is not the present one.
        """

    @abstractmethod
    def delete(self, name: str, *, generation: int | None = None) -> bool:
        """Delete an object; `False` where it (or that generation of it) is gone already."""

    @abstractmethod
    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """All objects under a prefix in name order, page by page."""
