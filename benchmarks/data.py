"""Preparing data compared with TRL: ``python -m benchmarks.data [--data FILE --tokenizer DIR]``.

Ours: read the file, render, tokenize, truncate, count, write the store and open it. TRL's: what SFTTrainer does with
    a data set of prompts and completions before training (end token, token ids, labels, truncation). Each runs in a
    separate process with its own default number of workers; imports are not counted. ``ratio`` is our time divided by
    theirs, from the medians of alternating rounds.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from pathlib import Path

from benchmarks.comparison import OURS, argument_parser, run, write_inputs

RUNNERS = {OURS: "benchmarks.data_tunesmith", "trl": "benchmarks.data_trl"}


def main() -> None:
    given = argument_parser(__doc__, "dolly's format", rounds=3, records=6000).parse_args()
    seconds: dict[str, list[float]] = {name: [] for name in RUNNERS}
    with tempfile.TemporaryDirectory() as directory:
        write_inputs("benchmarks.sft_inputs", Path(directory), given, "--no-model")
        result = Path(directory) / "result.json"
        for number in range(given.rounds):
            for name, module in RUNNERS.items():
                run(module, directory, str(result))
                seconds[name].append(float(json.loads(result.read_text(encoding="utf-8"))["seconds"]))
                print(f"round {number + 1}  {name:5} {seconds[name][-1]:7.2f} s", flush=True)
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    found = {"ratio": medians[OURS] / medians["trl"], "records": given.records, "seconds": seconds}
    print(f"ratio {found['ratio']:.3f}")
    if given.json:
        given.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
