"""A fault that a programmer could make, as a replacement of text in a source file."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantedFault:
    """A fault in one place of the package.

    file: relative to ``tunesmith``.
    old: text that the file has exactly once.
    new: what takes its place.
    tests: relative to ``tests``, as pytest takes them; at least one of them must fail.
    harm: what the fault would do to a user.
    """

    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    harm: str

    @property
    def path(self) -> str:
        """The file, relative to the repository."""
        return f"tunesmith/{self.file}"

    @property
    def node_ids(self) -> tuple[str, ...]:
        """The tests, relative to the repository."""
        return tuple(f"tests/{test}" for test in self.tests)

    def apply(self, root: Path) -> None:
        """Change the file in a copy of the repository. Raises ValueError unless it has the old text exactly once."""
        path = root / self.path
        text = path.read_text(encoding="utf-8")
        if text.count(self.old) != 1:
            raise ValueError(f"{self.path} has {text.count(self.old)} times: {self.old!r}")
        path.write_text(text.replace(self.old, self.new), encoding="utf-8")

    def digest(self, root: Path) -> str:
        """Digest of the fault, of the file without it, and of the files of its tests."""
        files = [self.path, *(test.partition("::")[0] for test in self.node_ids)]
        contents = [hashlib.sha256((root / file).read_bytes()).hexdigest() for file in files]
        return hashlib.sha256(json.dumps([asdict(self), contents]).encode()).hexdigest()
