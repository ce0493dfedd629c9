"""What a person typed in earlier chats, for the arrow keys: one JSON string a line, which only the user can read."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from prompt_toolkit.history import History

from tunesmith.apps.typed_text import valid_text
from tunesmith.errors import StorageError
from tunesmith.files import storage_errors, user_directory

MOST_ENTRIES = 1000
MODE = 0o600


def history_path(environment: Mapping[str, str]) -> Path:
    """The file in the user's state directory."""
    return user_directory("state", environment) / "chat-history.jsonl"


class HistoryFile(History):
    """The typed lines of all chats. A file that cannot be read or written ends no chat; it is reported once.

    path: the file; it and its directory are created when something is typed.
    fault: why lines are not kept; None while they are.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.fault: str | None = None
        self._path = path

    def load_history_strings(self) -> Iterator[str]:
        """The entries, the newest first. A file that has grown to twice ``MOST_ENTRIES`` is shortened."""
        try:
            lines = self._path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
            if len(lines) >= 2 * MOST_ENTRIES:
                lines = lines[-MOST_ENTRIES:]
                self._replace("".join(lines))
        except FileNotFoundError:
            return
        except OSError as error:
            self.fault = str(error)
            return
        for line in reversed(lines[-MOST_ENTRIES:]):
            if (entry := _entry(line)) is not None:
                yield entry

    def store_string(self, string: str) -> None:
        """Append an entry."""
        try:
            with storage_errors(self._path):
                self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._write(self._path, os.O_APPEND | os.O_CREAT, json.dumps(string) + "\n")
        except StorageError as error:
            self.fault = str(error)

    def _replace(self, content: str) -> None:
        """Write a shorter file. What another chat appends in the meantime is lost."""
        shorter = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        self._write(shorter, os.O_CREAT | os.O_TRUNC, content)
        os.replace(shorter, self._path)

    @staticmethod
    def _write(path: Path, flags: int, content: str) -> None:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CLOEXEC | flags, MODE), "wb") as file:
            os.fchmod(file.fileno(), MODE)
            file.write(content.encode())


def _entry(line: str) -> str | None:
    """The text of a line of the file; None for a line that is not one of ours, such as one that was cut."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return valid_text(found) if isinstance(found, str) and found else None
