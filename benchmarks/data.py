"""Preparing data beside TRL: ``python -m benchmarks.data [--data FILE --tokenizer DIR]``.

Ours: read the file, render, tokenise, cut, count, write the store and open it. TRL's: what SFTTrainer does with a prompt and
completion data set before training (end token, tokens, labels, cutting). Each in a process of its own, imports not counted,
both with their own default number of workers; ``ratio`` is our time by theirs, as medians of alternating rounds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path

from benchmarks.contest import run

CONTENDERS = {"ours": "benchmarks.data_ours", "trl": "benchmarks.data_trl"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--data", type=Path, help="a .jsonl file in dolly's form; without it, generated records")
    parser.add_argument("--tokenizer", help="a tokenizer directory; without it, one trained on generated text")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--records", type=int, default=6000)
    given = parser.parse_args()
    seconds: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    with tempfile.TemporaryDirectory() as directory:
        source = [f"--data={given.data.resolve()}"] if given.data else []
        source += [f"--tokenizer={given.tokenizer}"] if given.tokenizer else []
        run("benchmarks.world", directory, f"--records={given.records}", "--no-model", *source)
        result = Path(directory) / "result.json"
        for number in range(given.rounds):
            for name, module in CONTENDERS.items():
                run(module, directory, str(result))
                seconds[name].append(float(json.loads(result.read_text(encoding="utf-8"))["seconds"]))
                print(f"round {number + 1}  {name:5} {seconds[name][-1]:7.2f} s", flush=True)
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    found = {"ratio": medians["ours"] / medians["trl"], "records": given.records, "seconds": seconds}
    print(f"ratio {found['ratio']:.3f}")
    if given.json:
        given.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
