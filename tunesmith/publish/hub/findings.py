"""Finding what should not be published in files and their names: keys, e-mail addresses, local paths, hosts."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, cast

from tunesmith.errors import DataError
from tunesmith.files import READING, storage_errors
from tunesmith.model.directory import LARGEST_HEADER
from tunesmith.text.visible import visible

PIECE = 1 << 16
"""Characters that are searched at a time: a file with one long line takes no more memory than any other."""
OVERLAP = 1 << 13
"""Characters at the end of a piece that are searched again with the next one: more than tokens have, as a rule."""
DAMAGED = "make it again, or move it out of the directory"
WEIGHTS = ".safetensors"
COMPRESSED: Mapping[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    **{b"BZh%d1AY&SY" % level: bz2.open for level in range(1, 10)},
    b"\xfd7zXZ\0": lzma.open,
}
"""First bytes of a compressed file -> what opens it."""

_WORD = r"(?<![A-Za-z0-9_-])"
PATTERNS: Mapping[str, re.Pattern[str]] = {
    "Hugging Face token": re.compile(_WORD + r"(?:hf|api_org)_[A-Za-z0-9]{30,}"),
    "OpenAI or Anthropic key": re.compile(_WORD + r"sk-(?:[a-z]+[0-9]*-)*[A-Za-z0-9_-]{20,}"),
    "AWS key": re.compile(_WORD + r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}(?![A-Za-z0-9])"),
    "Google key": re.compile(_WORD + r"AIza[A-Za-z0-9_-]{35}"),
    "Google OAuth token": re.compile(_WORD + r"(?:ya29\.|GOCSPX-)[A-Za-z0-9_-]{20,}"),
    "GitHub token": re.compile(_WORD + r"(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{50,})"),
    "GitLab token": re.compile(_WORD + r"gl(?:pat|ptt|dt|rt|soat|cbt)-[A-Za-z0-9_-]{20,}"),
    "Slack token": re.compile(_WORD + r"xox[abposer]-[A-Za-z0-9-]{10,}"),
    "Slack or Discord webhook": re.compile(
        r"https://(?:hooks\.slack\.com/(?:services|workflows)|discord(?:app)?\.com/api/webhooks)/[A-Za-z0-9/_-]{20,}"
    ),
    "Discord token": re.compile(_WORD + r"[MNO][A-Za-z0-9_-]{23,25}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,}"),
    "Stripe or Square key": re.compile(
        _WORD + r"(?:(?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{16,}|sq0[a-z]{3}-[\w-]{22,})"
    ),
    "npm token": re.compile(_WORD + r"npm_[A-Za-z0-9]{36}"),
    "PyPI token": re.compile(_WORD + r"pypi-[A-Za-z0-9_-]{50,}"),
    "SendGrid key": re.compile(_WORD + r"SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{32,}"),
    "Twilio or Mailgun key": re.compile(_WORD + r"(?:(?:AC|SK)[a-f0-9]{32}|key-[a-f0-9]{32})(?![A-Za-z0-9])"),
    "Telegram token": re.compile(_WORD + r"[0-9]{8,10}:AA[A-Za-z0-9_-]{33}"),
    "Azure key": re.compile(r"(?:AccountKey|SharedAccessKey)=[A-Za-z0-9+/]{40,}={0,2}"),
    "Replicate, Groq or xAI key": re.compile(_WORD + r"(?:r8_|gsk_|xai-)[A-Za-z0-9]{30,}"),
    "JSON web token": re.compile(_WORD + r"eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{5,}"),
    "private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY(?: BLOCK)?-----"),
    "authorization header": re.compile(
        r"(?i)authorization[\"']?\s*[:=]\s*[\"']?(?:bearer|basic|token)\s+[\w.~+/=-]{16,}"
    ),
    "URL with a password": re.compile(r"[a-z][a-z0-9+.-]{1,15}://[^\s/:@\"'<>{}$]{1,80}:[^\s/@\"'<>{}$]{3,80}@[\w.-]+"),
    "password or key": re.compile(
        r"(?i)(?:password|passwd|secret|api[_-]?key|access[_-]?key|auth[_-]?token)"
        r"[\"']?\s{0,3}[:=]\s{0,3}[\"']?(?!(?:null|none|true|false|str|your|xxx|\*\*\*|\.\.\.)\b)"
        r"(?=[\w.~+/=!@#%^&*-]{0,80}[0-9])[\w.~+/=!@#%^&*-]{8,80}"
    ),
    "e-mail address": re.compile(
        r"(?<![\w.+-])[A-Za-z0-9][\w.+-]{0,63}@"
        r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,62}[A-Za-z0-9])?\.){1,8}[A-Za-z]{2,24}(?![\w-])"
    ),
    "home directory": re.compile(
        r"(?:/home|/Users|/export/home)/[\w.-]+|(?<![\w/.])/root(?:/[\w.-]+)+|[A-Za-z]:\\{1,2}Users\\{1,2}[\w.-]+"
    ),
    "address in a private network": re.compile(
        r"(?<![\w.])(?:10\.\d{1,3}|192\.168|172\.(?:1[6-9]|2\d|3[01]))\.\d{1,3}\.\d{1,3}(?![\w.])"
    ),
    "host in a private network": re.compile(
        r"(?<![\w.@-])[A-Za-z0-9][\w-]{0,62}(?:\.[\w-]{1,63}){0,5}"
        r"\.(?:internal|intranet|lan|corp|localdomain)(?![\w.-])"
    ),
}
"""What is searched for: its name in messages -> its form, as the services document it."""
PUBLIC = re.compile(r"(?i)@(?:(?:[\w-]+\.)*example\.(?:com|org|net)|users\.noreply\.github\.com)$")
"""Addresses that are reserved for examples."""


@dataclass(frozen=True, slots=True)
class PrivateText:
    """Something that should not be published.

    place: ``file:line``, relative to the directory; only the file if its name is private.
    kind: what it is, in words.
    text: as found.
    """

    place: str
    kind: str
    text: str

    @property
    def shown(self) -> str:
        """The text without most of a secret, so that a log does not repeat it."""
        if self.kind.startswith(("e-mail", "home", "address", "host", "name")):
            return visible(self.text)
        return visible(self.text[:6]) + "..."


def private_names(hostname: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Text that is private on this machine -> what it is, for ``find_private``.

    hostname: of this machine.
    environment: its variables; values of those that are called key, token, secret or password are private.
    """
    found: dict[str, str] = {}
    if len(hostname) > 3 and hostname not in ("localhost", "localhost.localdomain"):
        found[hostname] = "name of this machine"
    home = environment.get("HOME", "").rstrip("/")
    if home.count("/") > 1:
        found[home] = "home directory"
    for name, value in environment.items():
        if re.search(r"(?i)(?:key|token|secret|passw(?:or)?d)$", name) and len(value) >= 8 and not value.isdecimal():
            found[value] = f"value of the variable {name}"
    return found


def find_private(files: Mapping[str, Path], names: Mapping[str, str], allowed: Sequence[str] = ()) -> list[PrivateText]:
    """Everything in files and in their names that should not be published, in the order of files and lines.

    files: name -> path. Of weights the metadata are searched, of a compressed file the content.
    names: further text to look for -> what it is, as of ``private_names``.
    allowed: texts that may be published.
    """
    found: dict[tuple[str, str], PrivateText] = {}
    for name, path in files.items():
        for kind, _, text in _matches(name, names):
            if text not in allowed:
                found.setdefault((name, text), PrivateText(name, kind, text))
        for piece in _readable(path):
            for kind, start, text in _matches(piece.text, names):
                if not piece.cuts(start, start + len(text)) and text not in allowed:
                    place = f"{name}:{piece.line + piece.text.count(chr(10), 0, start)}"
                    found.setdefault((place, text), PrivateText(place, kind, text))
    return list(found.values())


def _matches(piece: str, names: Mapping[str, str]) -> Iterator[tuple[str, int, str]]:
    """Kind, first character and text of each finding; what is part of an earlier one is left out."""
    taken: list[tuple[int, int]] = []

    def is_new(start: int, end: int) -> bool:
        if any(first <= start and end <= last for first, last in taken):
            return False
        taken.append((start, end))
        return True

    for text, kind in names.items():
        start = piece.find(text)
        while start >= 0:
            if is_new(start, start + len(text)):
                yield kind, start, text
            start = piece.find(text, start + len(text))
    for kind, pattern in PATTERNS.items():
        for match in pattern.finditer(piece):
            if not PUBLIC.search(match[0]) and is_new(*match.span()):
                yield kind, match.start(), match[0]


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of a text.

    line: number of its first line.
    first: whether the text begins with it.
    shared: characters at its end with which the next piece begins; 0 for the last one.
    """

    line: int
    text: str
    first: bool
    shared: int

    def cuts(self, start: int, end: int) -> bool:
        """Whether what is found here is only a part of what the next piece has, or the one before had."""
        length = len(self.text)
        return (start == 0 and not self.first) or (end == length and start >= length - self.shared)


def _readable(path: Path) -> Iterator[_Piece]:
    """The pieces of a file. Raises StorageError if it cannot be read, DataError if it is compressed and damaged."""
    try:
        with storage_errors(path, READING, action="read"):
            yield from _pieces(path)
    except (EOFError, lzma.LZMAError, zlib.error) as error:
        raise DataError(f"this compressed file cannot be searched: {error}", where=path, advice=DAMAGED) from error


def _pieces(path: Path) -> Iterator[_Piece]:
    """The text of a file in pieces that overlap; those of UTF-16 and UTF-32 also without the zeros between letters."""
    line, piece = 1, ""
    with _open_text(path) as file:
        first, text = True, file.read(PIECE)
        while text:
            piece, text = piece[-OVERLAP:] + text, file.read(PIECE)
            end = piece[-OVERLAP:] if text else ""
            yield _Piece(line, piece, first, len(end))
            if "\0" in piece:
                yield _Piece(line, piece.replace("\0", ""), first, len(end.replace("\0", "")))
            line += piece.count("\n", 0, max(0, len(piece) - OVERLAP))
            first = False


def _open_text(path: Path) -> TextIO:
    """What a file says as text: the content of a compressed file, the header of weights, whose numbers are no text."""
    if path.suffix == WEIGHTS:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            return io.StringIO(file.read(min(length, LARGEST_HEADER)).decode("utf-8", "replace"))
    with path.open("rb") as file:
        start = file.read(max(map(len, COMPRESSED)))
    opened = next((call for magic, call in COMPRESSED.items() if start.startswith(magic)), open)
    return cast(TextIO, opened(path, "rt", encoding="utf-8", errors="replace", newline="\n"))
