"""Input files: their kind, whether they are complete, and whether they change while they are read."""

from __future__ import annotations

import gzip
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from tunesmith.data.sources.kinds import BINARY, GZIP, HEAD, FileKind, check_head, file_kind, unknown_kind
from tunesmith.errors import DataError, MissingInputError

BLOCK = 2**20  # bytes read at once
EXPANSION_LIMIT = 100  # a file may not decompress to more than this many times its size ...
EXPANSION_FREE = 100 * 2**20  # ... once it has decompressed to so many bytes

ENCODINGS = (  # longest first: the mark of UTF-32 begins with that of UTF-16
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
CONVERT = "save it as UTF-8: iconv -f UTF-16 -t UTF-8 OLD > NEW, in Excel 'CSV UTF-8'"


@dataclass(frozen=True, slots=True)
class InputFile:
    """One regular file as it was when it was found.

    path: of the file.
    kind: from its name.
    compressed: with gzip.
    size: bytes on disk.
    length: bytes after decompression, as the end of a compressed file claims; only for showing progress.
    stamp: changes when the file is written.
    part: the sheet of a workbook or the list of an object of JSON that is read; None for the only one.
    """

    path: Path
    kind: FileKind
    compressed: bool
    size: int
    length: int
    stamp: tuple[int, ...]
    part: str | None = None


def find_file(path: Path, part: str | None = None) -> InputFile:
    """One file, after a look at its first bytes.

    part: of the file that will be read.
    Raises MissingInputError if it cannot be read, and DataError as ``check_head`` does.
    """
    with read_errors(path):
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise MissingInputError("this is not a regular file", where=path, advice="give the path of a file")
        expected = file_kind(path)
        if expected is None:
            raise unknown_kind(path)
        if status.st_size == 0:
            raise MissingInputError("the file is empty", where=path, advice="download or write it again")
        with path.open("rb") as file:
            head = file.read(HEAD)
            check_head(path, *expected, head)
            if expected[0] not in BINARY and not expected[1]:
                check_encoding(path, head)
            length = status.st_size
            if expected[1]:
                file.seek(max(0, length - 4))
                length = max(length, int.from_bytes(file.read(4), "little"))
    return InputFile(path, *expected, size=status.st_size, length=length, stamp=_stamp(status), part=part)


@contextmanager
def read_errors(path: Path) -> Iterator[None]:
    """Turn an operating-system error while reading into one clear MissingInputError."""
    try:
        yield
    except FileNotFoundError as error:
        place = error.filename or path
        raise MissingInputError("the file does not exist", where=place, advice="check the path") from error
    except OSError as error:
        what = f"the file cannot be read: {error.strerror or error}"
        raise MissingInputError(what, where=error.filename or path) from error


def _stamp(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def check_unchanged(file: InputFile) -> None:
    """Raises DataError if the file is another one than when it was found."""
    with read_errors(file.path):
        if _stamp(file.path.stat()) != file.stamp:
            what = "the file changed while it was read"
            raise DataError(what, where=file.path, advice="start again when it is complete")


def check_text(file: InputFile, head: bytes) -> None:
    """Refuse what a compressed file may hold instead of text.

    head: the first bytes after decompression.
    Raises DataError.
    """
    if file.compressed and head.startswith(GZIP):
        raise DataError("the file is compressed with gzip twice", where=file.path, advice="decompress it once")
    if file.compressed and head == b"PAR1":
        advice = "decompress it, and let its name end in .parquet"
        raise DataError("the file is a parquet file compressed with gzip", where=file.path, advice=advice)
    check_encoding(file.path, head)


def check_encoding(path: Path, head: bytes) -> None:
    """Refuse UTF-16 and UTF-32 by name.

    head: the first bytes of the text.
    Raises DataError.
    """
    for mark, name in ENCODINGS:
        if head.startswith(mark):
            raise DataError(f"the file is {name}, not UTF-8", where=f"{path}:1", advice=CONVERT)
    if b"\0" in head[:4]:
        what = "the file has NUL bytes, as UTF-16 without a byte order mark does"
        raise DataError(what, where=f"{path}:1", advice=CONVERT)


@contextmanager
def gzip_errors(path: Path) -> Iterator[None]:
    """Turn errors of gzip and zlib into one clear DataError."""
    advice = "download it again; nothing of it is used"
    try:
        yield
    except EOFError as error:
        raise DataError("the gzip data end too early", where=path, advice=advice) from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"the gzip data are damaged ({str(error).lower()})", where=path, advice=advice) from error


def blocks(file: InputFile) -> Iterator[bytes]:
    """The decompressed bytes of a text file, in pieces.

    A compressed file is read through to its end before the first byte is yielded, so that nothing of a file that is
    truncated or damaged is ever used.
    Raises DataError.
    """
    if file.compressed:
        check_compressed(file)
    with read_errors(file.path), gzip_errors(file.path), open_bytes(file) as stream:
        block = stream.read(BLOCK)
        check_text(file, block[:4])
        while block:
            yield block
            block = stream.read(BLOCK)


def open_bytes(file: InputFile) -> IO[bytes]:
    """The file, decompressed if it is compressed."""
    return cast(IO[bytes], gzip.open(file.path)) if file.compressed else file.path.open("rb")


def check_compressed(file: InputFile) -> None:
    """Decompress the whole file and keep nothing; this compares length and checksum of every member.

    Raises DataError.
    """
    total = 0
    with read_errors(file.path), gzip_errors(file.path), open_bytes(file) as stream:
        while block := stream.read(BLOCK):
            total += len(block)
            if total > max(EXPANSION_FREE, EXPANSION_LIMIT * file.size):
                raise expansion_error(file)


def expansion_error(file: InputFile) -> DataError:
    """The error of a small file that decompresses to a large one, which is more often an attack than data."""
    what = f"the file decompresses to more than {EXPANSION_LIMIT} times its {file.size:,} bytes"
    return DataError(what, where=file.path, advice="decompress it yourself if this is intended")
