"""What a finished run is, to the bit."""

from __future__ import annotations

import hashlib
from pathlib import Path

COMPARED = ("checkpoints/step-000030/model.safetensors", "checkpoints/step-000030/optimizer.safetensors")
RECORDS = ("metrics.jsonl", "consumed.jsonl", "export/model.safetensors")


def digests(run: Path) -> dict[str, str]:
    """SHA-256 of the last weights, the optimizer's state, the record, the consumed examples and the export."""
    return {name: hashlib.sha256((run / name).read_bytes()).hexdigest() for name in (*COMPARED, *RECORDS)}
