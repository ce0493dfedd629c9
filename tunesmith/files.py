"""Atomic writing: a file or directory appears under its name when it is complete, or not at all."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol, TypeVar

from tunesmith.errors import DataError, MissingInputError, StorageError, UsageError

UNFINISHED = ".unfinished-"
REPLACED = ".replaced-"
AT_FDCWD, RENAME_EXCHANGE = -100, 2  # of Linux: relative to the working directory; exchange both names
IN_THE_WAY = "move away what has this name, or choose another name"
READING = "check the disk and the permissions; nothing was changed"
"""What to do about a file that cannot be read."""
STORAGE_ERRORS = frozenset(
    {
        *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EPIPE),
        *(errno.ENOLCK, errno.EOPNOTSUPP, errno.ESTALE, errno.ENODEV, errno.EMFILE, errno.ENFILE),
    }
)
"""Numbers of the errors that only files have, so that they say enough without the name of one."""
LARGEST_OBJECT = 1 << 26  # bytes of a JSON file that is read as one object; the largest tokenizers have 40 MB
LARGEST_SETTINGS = 1 << 23  # bytes of a JSON file of settings
MOST_CONTAINERS, MOST_QUOTES = 1 << 22, 1 << 23  # of a JSON file, which takes up to 100 times its size in memory
DEEPEST = 60  # containers inside of each other


def user_directory(kind: Literal["cache", "data", "state"], environment: Mapping[str, str]) -> Path:
    """The directory of Tunesmith's own files of one user, by the XDG Base Directory Specification.

    A variable such as ``XDG_DATA_HOME`` that is empty or has a relative path is ignored.
    """
    usual = {"cache": ".cache", "data": ".local/share", "state": ".local/state"}[kind]
    base = Path(environment.get(f"XDG_{kind.upper()}_HOME", ""))
    return (base if base.is_absolute() else Path.home() / usual) / "tunesmith"


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
    """The JSON object in a file that others wrote. As ``read_json``, but DataError for another JSON value."""
    value = read_json(path, advice=advice, largest=largest)
    if not isinstance(value, dict):
        raise DataError("not a JSON object", where=path, advice=advice)
    return value


def read_json(path: Path, *, advice: str | None = None, largest: int = LARGEST_OBJECT) -> Any:
    """The JSON value in a file that others wrote.

    advice: what to do about a file that cannot be used.
    largest: bytes that are read at most.
    Raises MissingInputError (it cannot be opened) and DataError (no regular file, too large, not JSON).
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
    check_amount(content, path, advice)
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DataError(f"not valid JSON: {error}", where=path, advice=advice) from error
    if len(content) <= LARGEST_SETTINGS and is_deep(value):
        raise DataError(f"lists and objects are more than {DEEPEST} deep in each other", where=path, advice=advice)
    return value


def read_small(path: Path, largest: int = LARGEST_SETTINGS) -> bytes:
    """The content of a file of settings. Raises OSError, and ValueError if it has more than ``largest`` bytes."""
    with path.open("rb") as file:
        content = file.read(largest + 1)
    if len(content) > largest:
        raise ValueError(f"the file has more than {largest:,} bytes")
    return content


def check_amount(content: bytes, where: Path, advice: str | None) -> None:
    """Raises DataError for JSON that holds more lists, objects and texts than any sound file."""
    if content.count(b"[") + content.count(b"{") > MOST_CONTAINERS or content.count(b'"') > MOST_QUOTES:
        raise DataError("the file holds too many entries", where=where, advice=advice)


def is_deep(value: Any) -> bool:
    """Whether a JSON value has containers more than ``DEEPEST`` deep in each other."""
    level = [value]
    for _ in range(DEEPEST):
        inner = [each for each in level if isinstance(each, dict | list)]
        if not inner:
            return False
        level = [entry for each in inner for entry in (each.values() if isinstance(each, dict) else each)]
    return any(isinstance(each, dict | list) for each in level)


def find_inner_file(directory: Path, name: str) -> Path | None:
    """The real path of a regular file of a directory; None if there is no file of that name.

    A link may point to a file of the directory, and in the cache of the hub to a file of the same repository.
    Raises DataError for anything else.
    """
    path = directory / name
    if not os.path.lexists(path):
        return None
    real, root = Path(os.path.realpath(path)), Path(os.path.realpath(directory))
    allowed = [
        root,
        *([Path(os.path.realpath(root.parent.parent / "blobs"))] if root.parent.name == "snapshots" else []),
    ]
    if not any(real.is_relative_to(each) for each in allowed):
        raise DataError(
            "this is a link to a file outside of the directory",
            where=path,
            advice="copy the file into the directory, or name the directory that holds it",
        )
    try:
        kind = real.stat().st_mode
    except OSError as error:
        raise MissingInputError(f"the file cannot be read: {error.strerror}", where=path) from error
    if not stat.S_ISREG(kind):
        raise DataError("this is not a regular file", where=path, advice="fetch the files again")
    return real


def flush_to_disk(path: Path) -> None:
    """fsync a file or directory; a rename is durable only after its directory is flushed."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def storage_errors(
    where: Path,
    advice: str = "free disk space or choose another directory; complete files are unaffected",
    *,
    action: Literal["write", "read", "lock"] = "write",
) -> Iterator[None]:
    """Raises StorageError for an operating-system error in the block.

    where: the path in the message, unless the error has one; of a rename that fails, the new name.
    advice: what to do about it, unless the name is that of something else.
    action: what the block does, in the message.
    """
    try:
        yield
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        place = error.filename2 or error.filename or where
        raise StorageError(f"cannot {action}: {error.strerror}", where=place, advice=IN_THE_WAY) from error
    except OSError as error:
        place = error.filename2 or error.filename or where
        advice = IN_THE_WAY if error.errno == errno.ELOOP else advice  # a link has the name of a file
        raise StorageError(f"cannot {action}: {error.strerror or error}", where=place, advice=advice) from error


class Closable(Protocol):
    """Something whose ``close`` may raise OSError."""

    def close(self) -> None: ...


ClosableT = TypeVar("ClosableT", bound=Closable)


@contextmanager
def closed(opened: ClosableT, where: Path) -> Iterator[ClosableT]:
    """Close something at the end of the block. An error of the block is never replaced by one of closing.

    where: the path in the message.
    Raises StorageError if it cannot be closed: some disks report only then that they have lost what was written.
    """
    try:
        yield opened
    except BaseException:
        with suppress(OSError, StorageError):
            opened.close()
        raise
    with storage_errors(where):
        opened.close()


def find_storage_error(error: OSError) -> StorageError | None:
    """The same error in words, if it is one of a file or of a disk; None for one of a network or a process."""
    place = error.filename2 or error.filename
    if error.errno is None or (place is None and error.errno not in STORAGE_ERRORS):
        return None
    advice = "check space, permissions and the state of the disk; checkpoints that were complete are unaffected"
    return StorageError(f"cannot be read or written: {error.strerror}", where=place, advice=advice)


def _free_name(directory: Path) -> Path:
    """A temporary name that no other process uses."""
    return directory / f"{UNFINISHED}{secrets.token_hex(8)}"


def check_no_input(output: Path, inputs: Iterable[Path]) -> None:
    """Raises UsageError if a file that is to be written is one of those that are read."""
    for path in inputs:
        if output.exists() and path.exists() and output.samefile(path):
            raise UsageError("this file is read and would be overwritten", where=output, advice="name another output")


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
    write_file(path, json_text(value))


def json_text(value: Mapping[str, Any]) -> str:
    """The text that ``write_json`` writes, which is the same for equal values in the same order."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def check_replaceable(path: Path) -> None:
    """Raises StorageError if something other than a directory has the name of a directory that will be written."""
    if os.path.lexists(path) and (path.is_symlink() or not path.is_dir()):
        what = "a link" if path.is_symlink() else "not a directory"
        raise StorageError(f"this is {what}, and it is not replaced", where=path, advice="move it away, or rename it")


@contextmanager
def new_directory(path: Path, *, kept: Sequence[str] = ()) -> Iterator[Path]:
    """A directory that appears under ``path``, in place of an older one, only if the block ends without an error.

    Yields a temporary directory on the same file system. At the end, its files are flushed, and it takes the place of
    an older directory in one step, so that a complete one has the name at every moment.

    kept: names in the older directory, with slashes, that the new one keeps, unless it has them itself.
    Raises StorageError.
    """
    with storage_errors(path):
        check_replaceable(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _free_name(path.parent)
        temporary.mkdir()
        try:
            yield temporary
            for name in kept:
                if os.path.lexists(path / name) and not os.path.lexists(temporary / name):
                    if not (temporary / name).parent.is_dir():
                        (temporary / name).parent.mkdir(parents=True)
                    _link_tree(path / name, temporary / name)
            for item in sorted(temporary.rglob("*")):
                if item.is_dir() or item.is_file():
                    flush_to_disk(item)
            flush_to_disk(temporary)
            if path.exists():
                _exchange(temporary, path)
            else:
                os.rename(temporary, path)
            flush_to_disk(path.parent)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        if temporary.exists():  # the older directory
            shutil.rmtree(temporary, ignore_errors=True)  # a rest is removed by remove_unfinished


def _link_tree(source: Path, target: Path) -> None:
    """Give the files of a tree a second name, or copy them where the file system has no such names."""
    if source.is_dir() and not source.is_symlink():
        target.mkdir()
        for item in source.iterdir():
            _link_tree(item, target / item.name)
        return
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


def _exchange(new: Path, old: Path) -> None:
    """Exchange the names of two directories, on Linux in one step.

    Elsewhere, ``old`` gets the name ``old.replaced`` in between. It gets its own name back after an error, and by
    ``remove_unfinished`` after a kill.
    """
    if _exchange_at_once(new, old):
        return
    aside = old.with_name(REPLACED + old.name)
    os.rename(old, aside)
    try:
        os.rename(new, old)
    except BaseException:
        os.rename(aside, old)
        raise
    os.rename(aside, new)


def _exchange_at_once(one: Path, other: Path) -> bool:
    """Exchange two names by renameat2; False where system or file system cannot."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        return False
    if call(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(number, os.strerror(number), str(other))


def remove_unfinished(directory: Path) -> int:
    """Delete the temporary files of killed processes in ``directory`` and return their number.

    A directory that was about to be replaced gets its name back. Call it only while holding the lock of the directory.
    """
    for aside in directory.glob(REPLACED + "*") if directory.is_dir() else []:
        if not os.path.lexists(original := aside.with_name(aside.name.removeprefix(REPLACED))):
            os.rename(aside, original)
        elif aside.is_dir():
            shutil.rmtree(aside, ignore_errors=True)
    leftovers = list(directory.glob(UNFINISHED + "*")) if directory.is_dir() else []
    for item in leftovers:
        if item.is_dir():
            shutil.rmtree(item, ignore_errors=True)
        else:
            item.unlink(missing_ok=True)
    return len(leftovers)
