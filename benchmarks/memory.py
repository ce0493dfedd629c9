"""Memory and time of preparing one large file: ``python -m benchmarks.memory [--megabytes 1000] [--json FILE]``.

A .jsonl file of generated records with dolly's lengths is prepared in a separate process. The resident size of that
process and of its workers is sampled; ``total`` counts pages that several processes share once for each of them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import astuple
from pathlib import Path
from typing import Any

import psutil

from benchmarks.comparison import REPOSITORY
from benchmarks.dolly_like import generate_records, train_tokenizer
from benchmarks.sft_inputs import SYMBOLS
from tunesmith.text.formats.registry import build_format
from tunesmith.text.tokenizer.tokenizer import Tokenizer

GENERATED = 5000  # records that are generated; they are repeated with a number, so that no two are the same
INTERVAL = 0.1  # seconds between two samples


def write_records(path: Path, size: int) -> int:
    """Write records of at least ``size`` bytes in all; returns their number."""
    generated = [(record.instruction, record.context, record.response) for record in generate_records(GENERATED)]
    written = count = 0
    with path.open("w", encoding="utf-8") as file:
        while written < size:
            instruction, context, response = generated[count % GENERATED]
            record = {"instruction": f"{instruction} {count}", "context": context, "response": response}
            written += file.write(json.dumps(record, ensure_ascii=False) + "\n")
            count += 1
    return count


def resident(process: psutil.Process) -> list[int]:
    """The resident sizes of a process and of its descendants, in bytes; a process that has ended has none."""
    found = []
    for each in (process, *process.children(recursive=True)):
        try:
            found.append(each.memory_info().rss)
        except psutil.NoSuchProcess:
            continue
    return found


def measure(inputs: Path, workers: int | None) -> dict[str, Any]:
    """Prepare INPUTS/records.jsonl in a separate process; returns seconds, and sizes in bytes."""
    arguments = [str(inputs), str(inputs / "result.json"), *([] if workers is None else [str(workers)])]
    peak = {"parent": 0, "workers": 0, "total": 0}
    began = time.perf_counter()
    with subprocess.Popen([sys.executable, "-m", "benchmarks.memory_process", *arguments], cwd=REPOSITORY) as child:
        process = psutil.Process(child.pid)
        while child.poll() is None:
            try:
                own, *others = resident(process) or [0]
            except psutil.NoSuchProcess:
                break
            for name, value in (("parent", own), ("workers", sum(others)), ("total", own + sum(others))):
                peak[name] = max(peak[name], value)
            time.sleep(INTERVAL)
    if child.returncode:
        raise SystemExit("preparing the data failed")
    result: dict[str, Any] = json.loads((inputs / "result.json").read_text(encoding="utf-8"))
    return {**result, "seconds_with_start": time.perf_counter() - began, "peak": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write all results to this file")
    parser.add_argument("--megabytes", type=int, nargs="+", default=[100, 300], help="sizes of the files")
    parser.add_argument("--tokenizer", help="a tokenizer directory; without it, one trained on generated text")
    parser.add_argument("--workers", type=int, help="worker processes; default: the same as in every run")
    given = parser.parse_args()
    rounds = []
    for size in given.megabytes:
        with tempfile.TemporaryDirectory() as directory:
            inputs = Path(directory)
            if given.tokenizer is None:
                learned = [text for record in generate_records(1000) for text in astuple(record)]
                train_tokenizer(learned, inputs / "plain_tokenizer", SYMBOLS)
            source = Tokenizer.load(given.tokenizer or str(inputs / "plain_tokenizer"), build_format("dolly").controls)
            source.save(inputs / "tokenizer")
            count = write_records(inputs / "records.jsonl", size * 10**6)
            found = {"megabytes": size, "records_written": count, **measure(inputs, given.workers)}
        rounds.append(found)
        peaks = ", ".join(f"{name} {value / 10**6:,.0f} MB" for name, value in found["peak"].items())
        print(f"{size:,} MB, {count:,} records: {found['seconds']:.0f} s, peak {peaks}", flush=True)
    if len(rounds) > 1:
        more = rounds[-1]["records_written"] - rounds[0]["records_written"]
        slope = (rounds[-1]["peak_memory"] - rounds[0]["peak_memory"]) / max(1, more)
        print(f"{slope:,.0f} bytes for every additional record")
    if given.json:
        given.json.write_text(json.dumps(rounds, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
