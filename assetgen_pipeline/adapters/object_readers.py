"""Read many objects at once, in bounded memory."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from assetgen_pipeline.domain.errors import ObjectMissing
from assetgen_pipeline.ports.object_store import ObjectStore

_AT_ONCE = 16


def read_each(store: ObjectStore, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """Each object's name and bytes in the order of `names`; one that is gone is left out."""
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="read") as pool:
        ahead: deque[tuple[str, Future[bytes]]] = deque()
        for name in names:
            ahead.append((name, pool.submit(store.read, name)))
            if len(ahead) > _AT_ONCE:
                yield from _ready(*ahead.popleft())
        while ahead:
            yield from _ready(*ahead.popleft())


def _ready(name: str, reading: Future[bytes]) -> Iterator[tuple[str, bytes]]:
    try:
        yield name, reading.result()
    except ObjectMissing:
        return
