"""Files as they are found: what kind they are, whether they are whole, and whether they stay as they were."""

from __future__ import annotations

import gzip
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, cast

from tunesmith.errors import DataError, MissingInputError

Kind = Literal["json", "jsonl", "parquet"]
SUFFIXES: dict[str, Kind] = {".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}

BLOCK = 2**20  # bytes read at once
GROWTH_LIMIT = 100  # a file may not unpack to more than this many times its size ...
GROWTH_FREE = 100 * 2**20  # ... once it has unpacked to so many bytes

ENCODINGS = (  # longest first: the mark of UTF-32 begins with that of UTF-16
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class InputFile:
    """One regular file as it was when it was found.

    packed: gzip. size: bytes on disk. length: bytes unpacked, as a packed file says of itself (for showing progress, no
    more). stamp: changes when the file is written.
    """

    path: Path
    kind: Kind
    packed: bool
    size: int
    length: int
    stamp: tuple[int, ...]


def kind_of(path: Path) -> tuple[Kind, bool] | None:
    """What the name promises: the kind, and whether it is packed; None for a name that promises nothing known."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    packed = bool(suffixes) and suffixes[-1] == ".gz"
    kind = SUFFIXES.get(suffixes[-2] if packed and len(suffixes) == 2 else suffixes[-1]) if suffixes else None
    return None if kind is None or (packed and kind == "parquet") else (kind, packed)


def find(path: Path) -> InputFile:
    """Look at one file, and at its first bytes. Raises MissingInputError or DataError; see ``check_head``."""
    with reading(path):
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise MissingInputError("is not a regular file", where=path, advice="name a file")
        promise = kind_of(path)
        if promise is None:
            known = ", ".join(SUFFIXES)
            raise DataError(
                "the name does not say what is in the file",
                where=path,
                advice=f"end it in one of {known}, .json.gz, .jsonl.gz",
            )
        if status.st_size == 0:
            raise MissingInputError("is empty", where=path, advice="fetch or write it again")
        with path.open("rb") as file:
            check_head(path, *promise, file.read(8))
            length = status.st_size
            if promise[1]:
                file.seek(max(0, length - 4))
                length = max(length, int.from_bytes(file.read(4), "little"))
    return InputFile(path, *promise, size=status.st_size, length=length, stamp=_stamp(status))


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what the operating system says while reading into one clear line."""
    try:
        yield
    except FileNotFoundError as error:
        raise MissingInputError("does not exist", where=error.filename or path, advice="check the path") from error
    except OSError as error:
        raise MissingInputError(f"cannot be read: {error.strerror or error}", where=error.filename or path) from error


def _stamp(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def check_unchanged(file: InputFile) -> None:
    """Raises DataError if the file is another one than when it was found."""
    with reading(file.path):
        if _stamp(file.path.stat()) != file.stamp:
            raise DataError("changed while it was read", where=file.path, advice="start again when it is complete")


def check_head(path: Path, kind: Kind, packed: bool, head: bytes) -> None:
    """Compare the first bytes with what the name promises. Raises DataError."""
    is_gzip, is_parquet = head.startswith(b"\x1f\x8b"), head.startswith(b"PAR1")
    if packed:
        if not is_gzip:
            raise DataError("is not gzip data", where=path, advice="take .gz off its name, or fetch it again")
    elif is_gzip:
        raise DataError("is gzip data under another name", where=path, advice="let its name end in .gz")
    elif is_parquet != (kind == "parquet"):
        raise DataError(
            f"is {'' if is_parquet else 'not '}a parquet file", where=path, advice="mend its name, or fetch it again"
        )
    elif kind != "parquet":
        check_encoding(path, head)


def check_text(file: InputFile, head: bytes) -> None:
    """Refuse what a packed file may hold instead of text. head: the first bytes, unpacked. Raises DataError."""
    if file.packed and head.startswith(b"\x1f\x8b"):
        raise DataError("is packed with gzip twice", where=file.path, advice="unpack it once")
    if file.packed and head == b"PAR1":
        advice = "unpack it, and let its name end in .parquet"
        raise DataError("is a parquet file packed with gzip", where=file.path, advice=advice)
    check_encoding(file.path, head)


def check_encoding(path: Path, head: bytes) -> None:
    """Refuse UTF-16 and UTF-32 by name. head: the first bytes of the text. Raises DataError."""
    for mark, name in ENCODINGS:
        if head.startswith(mark):
            raise DataError(f"is {name}, not UTF-8", where=f"{path}:1", advice="save it as UTF-8")
    if b"\0" in head[:4]:
        raise DataError("holds NUL bytes, as UTF-16 without a mark does", where=f"{path}:1", advice="save it as UTF-8")


@contextmanager
def unpacking(path: Path) -> Iterator[None]:
    """Turn what gzip and zlib say about broken data into one clear line."""
    advice = "fetch it again; nothing of it is used"
    try:
        yield
    except EOFError as error:
        raise DataError("the gzip data break off", where=path, advice=advice) from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"the gzip data are damaged ({str(error).lower()})", where=path, advice=advice) from error


def blocks(file: InputFile) -> Iterator[bytes]:
    """The bytes of a text file, unpacked, in pieces.

    A packed file is read through to its end before the first byte is given out, so that nothing of a file that was cut
    or damaged is ever used. Raises DataError.
    """
    if file.packed:
        check_packed(file)
    with reading(file.path), unpacking(file.path), open_bytes(file) as stream:
        block = stream.read(BLOCK)
        check_text(file, block[:4])
        while block:
            yield block
            block = stream.read(BLOCK)


def open_bytes(file: InputFile) -> IO[bytes]:
    """The file, unpacked if it is packed."""
    return cast(IO[bytes], gzip.open(file.path)) if file.packed else file.path.open("rb")


def check_packed(file: InputFile) -> None:
    """Unpack the whole file, which compares length and checksum of every member, and keep nothing. Raises DataError."""
    unpacked = 0
    with reading(file.path), unpacking(file.path), open_bytes(file) as stream:
        while block := stream.read(BLOCK):
            unpacked += len(block)
            if unpacked > max(GROWTH_FREE, GROWTH_LIMIT * file.size):
                raise too_large(file)


def too_large(file: InputFile) -> DataError:
    """A small file that unpacks to a large one is more often a trap than data."""
    what = f"unpacks to more than {GROWTH_LIMIT} times its {file.size:,} bytes"
    return DataError(what, where=file.path, advice="unpack it yourself if this is meant")
