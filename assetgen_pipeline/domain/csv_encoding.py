"""How the bytes of a batch file become text: UTF-8 or a refusal that says where it is not."""

from collections.abc import Iterator
from itertools import islice

from assetgen_pipeline.domain.errors import BatchRejected, FileProblem

_BOM = b"\xef\xbb\xbf"
_WIDE_BOMS = (b"\xff\xfe", b"\xfe\xff")
_BAD_LINES_NAMED = 5


def decoded(data: bytes) -> str:
    """The text of a file, without its byte order mark.

    Raises:
        BatchRejected: it is not UTF-8; the first lines that are not are named.
    """
    if data.startswith(_WIDE_BOMS) or b"\0" in data[:4]:
        detail = 'byte 0: the file looks like UTF-16 or UTF-32; save it as "CSV UTF-8"'
        raise BatchRejected([FileProblem(1, "", "csv-encoding", detail)])
    skipped = len(_BOM) if data.startswith(_BOM) else 0
    try:
        return data[skipped:].decode()
    except UnicodeDecodeError as error:
        problems = list(islice(_bad_lines(data, error.start + skipped), _BAD_LINES_NAMED))
        raise BatchRejected(problems) from error


def _bad_lines(data: bytes, offset: int) -> Iterator[FileProblem]:
    """The lines that are not UTF-8, the first of which is broken at the byte `offset`."""
    counted, line = 0, 1
    while True:
        line += data.count(b"\n", counted, offset)
        counted = offset
        detail = f'byte {offset:,} (0x{data[offset]:02X}) is not UTF-8; save it as "CSV UTF-8"'
        yield FileProblem(line, "", "csv-encoding", detail)
        after = data.find(b"\n", offset)
        try:
            str(memoryview(data)[after if after >= 0 else len(data) :], "utf-8")
        except UnicodeDecodeError as error:
            offset = after + error.start
        else:
            return
