"""What the files of a finished run hold: digests, for comparing two runs bit for bit, and texts."""

from __future__ import annotations

import hashlib
from pathlib import Path

RECORDS = ("metrics.jsonl", "consumed.jsonl", "export/model.safetensors")


def digests(run: Path) -> dict[str, str]:
    """SHA-256 of the last weights, the state of the optimizer, the metrics, the consumed examples and the export."""
    last = max((run / "checkpoints").glob("step-*"), key=lambda path: (int(path.name.split("-")[1]), path.name))
    weights = [str(path.relative_to(run)) for path in sorted(last.glob("*.safetensors"))]
    assert any("optimizer" in name for name in weights), weights
    return {name: hashlib.sha256((run / name).read_bytes()).hexdigest() for name in (*weights, *RECORDS)}


def files_with(directory: Path, text: str) -> list[str]:
    """The names of the files below a directory that hold a text, in their order."""
    files = [path for path in sorted(directory.rglob("*")) if path.is_file()]
    assert files
    return [path.relative_to(directory).as_posix() for path in files if text.encode() in path.read_bytes()]
