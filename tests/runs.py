"""Digests of a finished run, for comparing two runs bit for bit."""

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
