"""A bucket in memory, with the generations and preconditions of the real one."""

import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Literal

from assetgen_pipeline.domain.errors import (
    ObjectChanged,
    ObjectExists,
    ObjectMissing,
    StorageUnavailable,
)
from assetgen_pipeline.ports.clock import Clock
from assetgen_pipeline.ports.object_store import ObjectInfo, ObjectStore

Verb = Literal["read", "stat", "create", "write", "delete", "list"]

_FIRST_GENERATION = 1_700_000_000_000_000


@dataclass(frozen=True, slots=True)
class _Stored:
    info: ObjectInfo
    data: bytes


class InMemoryObjectStore(ObjectStore):
    """A bucket for tests: safe to use from many threads, and able to fail on demand."""

    def __init__(self, bucket: str = "test-bucket", *, clock: Clock | None = None) -> None:
        """Begin empty; `updated_at` comes from `clock`, else from the machine's."""
        self.bucket = bucket
        self.calls: list[tuple[Verb, str]] = []
        self._clock = clock
        self._lock = threading.Lock()
        self._objects: dict[str, _Stored] = {}
        self._generation = _FIRST_GENERATION
        self._failures: defaultdict[Verb, int] = defaultdict(int)

    def fail_next(self, verb: Verb, *, times: int = 1) -> None:
        """Make the next calls of one verb raise `StorageUnavailable` and change nothing."""
        with self._lock:
            self._failures[verb] += times

    def read(self, name: str, *, generation: int | None = None) -> bytes:
        """The object's bytes.

        Raises:
            ObjectMissing: no such object, or not at that generation.
            StorageUnavailable: `fail_next` asked for it.
        """
        with self._call("read", name):
            stored = self._present(name)
            if generation not in (None, stored.info.generation):
                message = f"{name} is not in the bucket at generation {generation}"
                raise ObjectMissing(message)
            return stored.data

    def stat(self, name: str) -> ObjectInfo | None:
        """The object's description, or `None`.

        Raises:
            StorageUnavailable: `fail_next` asked for it.
        """
        with self._call("stat", name):
            stored = self._objects.get(name)
            return stored.info if stored else None

    def create(
        self, name: str, data: bytes, *, content_type: str, metadata: Mapping[str, str] = {}
    ) -> ObjectInfo:
        """Upload an object that must not exist yet.

        Raises:
            ObjectExists: it does; nothing was changed.
            StorageUnavailable: `fail_next` asked for it.
        """
        with self._call("create", name):
            if name in self._objects:
                message = f"{name} is already in the bucket"
                raise ObjectExists(message)
            return self._put(name, data, content_type, metadata)

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
            ObjectChanged: `if_generation` is given and is not the present one (0 is absent).
            StorageUnavailable: `fail_next` asked for it.
        """
        with self._call("write", name):
            stored = self._objects.get(name)
            present = stored.info.generation if stored else 0
            if if_generation not in (None, present):
                message = f"{name} is no longer at generation {if_generation}"
                raise ObjectChanged(message)
            return self._put(name, data, content_type, metadata)

    def delete(self, name: str, *, generation: int | None = None) -> bool:
        """Delete an object; `False` where it (or that generation of it) is gone already.

        Raises:
            StorageUnavailable: `fail_next` asked for it.
        """
        with self._call("delete", name):
            stored = self._objects.get(name)
            if stored is None or generation not in (None, stored.info.generation):
                return False
            del self._objects[name]
            return True

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """All objects under a prefix in name order, as they stood at the first step.

        Raises:
            StorageUnavailable: `fail_next` asked for it.
        """
        with self._call("list", prefix):
            # GCS orders names by their UTF-8 bytes, which is the order of code points.
            names = sorted(name for name in self._objects if name.startswith(prefix))
            infos = [self._objects[name].info for name in names]
        yield from infos

    @contextmanager
    def _call(self, verb: Verb, name: str) -> Iterator[None]:
        with self._lock:
            self.calls.append((verb, name))
            if self._failures[verb]:
                self._failures[verb] -= 1
                raise StorageUnavailable("the bucket was told to be unavailable")
            yield

    def _present(self, name: str) -> _Stored:
        stored = self._objects.get(name)
        if stored is None:
            message = f"{name} is not in the bucket"
            raise ObjectMissing(message)
        return stored

    def _put(
        self, name: str, data: bytes, content_type: str, metadata: Mapping[str, str]
    ) -> ObjectInfo:
        self._generation += 1
        info = ObjectInfo(
            name=name,
            generation=self._generation,
            size=len(data),
            content_type=content_type,
            updated_at=self._now(),
            metadata=MappingProxyType(dict(metadata)),
        )
        self._objects[name] = _Stored(info, bytes(data))
        return info

    def _now(self) -> datetime:
        return self._clock.now() if self._clock else datetime.now(UTC)
