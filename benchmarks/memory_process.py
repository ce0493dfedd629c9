"""The process that ``benchmarks.memory`` measures: ``python -m benchmarks.memory_process INPUTS RESULT [WORKERS]``."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

from tunesmith.data.dataset.prepare import prepare
from tunesmith.data.dataset.rendering import RenderSettings
from tunesmith.data.readers.source_config import SourceConfig

MAX_LENGTH = 1024
VALIDATION = 1000


def main() -> None:
    inputs, result = Path(sys.argv[1]), Path(sys.argv[2])
    workers = int(sys.argv[3]) if len(sys.argv) > 3 else None
    source = SourceConfig(name="large", path=str(inputs / "records.jsonl"), reader="dolly")
    render = RenderSettings(str(inputs / "tokenizer"), "dolly", MAX_LENGTH, "right")
    loaded = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    began = time.perf_counter()
    prepared = prepare([source], render, validation=VALIDATION, seed=1, cache=inputs / "cache", workers=workers)
    found = {
        "seconds": time.perf_counter() - began,
        "records": len(prepared.train),
        "tokens": int(prepared.train.tokens.sum()),
        "loaded_memory": loaded,
        "peak_memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    result.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
