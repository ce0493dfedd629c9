"""Tunesmith's side of ``benchmarks.data``: ``python -m benchmarks.data_tunesmith INPUTS RESULT``."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.sft_tunesmith import build_store


def main() -> None:
    inputs, result = Path(sys.argv[1]), Path(sys.argv[2])
    with tempfile.TemporaryDirectory(dir=inputs) as cache:
        began = time.perf_counter()
        store = build_store(inputs, Path(cache), workers=None)
        seconds = time.perf_counter() - began
        found = {"seconds": seconds, "records": len(store), "tokens": int(store.tokens.sum())}
    result.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
