"""Atomic writing: a file or directory appears under its name when it is complete, or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from tunesmith.errors import DataError, MissingInputError, StorageError

UNFINISHED = ".unfinished-"
LARGEST_OBJECT = 1 << 28  # bytes of a JSON file that is read as one object; the largest tokenizers have 40 MB


def looks_like_path(text: str) -> bool:
    """Whether a text that may be a path or a hub name can only be a path: a hub name is ``name`` or ``owner/name``."""
    return text.startswith((".", "/", "~")) or text.count("/") > 1


def sha256(path: Path) -> str:
    """The SHA-256 digest of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(value: Any) -> str:
    """The SHA-256 digest of a JSON-like value, in hexadecimal; the order of keys does not matter."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def read_object(path: Path, *, advice: str | None = None, largest: int = LARGEST_OBJECT) -> dict[str, Any]:
    """The JSON object in a file that others wrote.

    advice: what to do about a file that cannot be used.
    largest: bytes that are read at most.
    Raises MissingInputError (it cannot be opened) and DataError (no regular file, too large, no JSON object).
    """
    try:
        # Without O_NONBLOCK, opening a named pipe waits for its other end.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise DataError("this is not a regular file", where=path, advice=advice)
            content = file.read(largest + 1)
    except OSError as error:
        raise MissingInputError(f"the file cannot be read: {error.strerror}", where=path) from error
    if len(content) > largest:
        raise DataError(f"the file has more than {largest:,} bytes", where=path, advice=advice)
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DataError(f"not valid JSON: {error}", where=path, advice=advice) from error
    if not isinstance(value, dict):
        raise DataError("not a JSON object", where=path, advice=advice)
    return value


def flush_to_disk(path: Path) -> None:
    """fsync a file or directory; a rename is durable only after its directory is flushed."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def storage_errors(
    where: Path, advice: str = "free disk space or choose another directory; complete files are unaffected"
) -> Iterator[None]:
    """Raises StorageError for an operating-system error in the block.

    where: the path in the message, unless the error has one.
    advice: what to do about it.
    """
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"cannot write: {error.strerror or error}", where=error.filename or where, advice=advice
        ) from error


def _free_name(directory: Path) -> Path:
    """A temporary name that no other process uses."""
    return directory / f"{UNFINISHED}{secrets.token_hex(8)}"


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A file that appears under ``path``, in place of an older one, only if the block ends without an error.

    It is a temporary file in the same directory, which is flushed and renamed at the end. Raises StorageError.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        name = _free_name(path.parent)
        descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            with os.fdopen(descriptor, "w+b") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, path)
            flush_to_disk(path.parent)
        except BaseException:
            with suppress(OSError):
                os.unlink(name)
            raise


def write_file(path: Path, content: str | bytes) -> None:
    """Write the content to ``path`` atomically, as ``new_file`` does. Raises StorageError."""
    with new_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write indented JSON to ``path`` atomically. Raises StorageError, and ValueError for NaN and infinity."""
    write_file(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


@contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """A directory that appears under ``path``, in place of an older one, only if the block ends without an error.

    Yields a temporary directory on the same file system. At the end, its files are flushed, an older directory of that
    name is moved away, and the new one is renamed. Raises StorageError.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _free_name(path.parent)
        temporary.mkdir()
        try:
            yield temporary
            for item in sorted(temporary.rglob("*")):
                flush_to_disk(item)
            flush_to_disk(temporary)
            replaced = None
            if path.exists():
                replaced = _free_name(path.parent)
                replaced.mkdir()
                os.rename(path, replaced / path.name)
            os.rename(temporary, path)
            flush_to_disk(path.parent)
            if replaced:
                shutil.rmtree(replaced)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def remove_unfinished(directory: Path) -> int:
    """Delete the temporary files of killed processes in ``directory`` and return their number.

    Call it only while holding the lock of the directory.
    """
    leftovers = list(directory.glob(UNFINISHED + "*")) if directory.is_dir() else []
    for item in leftovers:
        if item.is_dir():
            shutil.rmtree(item, ignore_errors=True)
        else:
            item.unlink(missing_ok=True)
    return len(leftovers)
