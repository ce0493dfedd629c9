"""Preparing data compared with TRL: ``python -m benchmarks.data [--data FILE --tokenizer DIR]``.

Ours: read the file, render, tokenize, truncate, count, write the store and open it. TRL's: what SFTTrainer does with
    a data set of prompts and completions before training (end token, token ids, labels, truncation), in one process
    (its default) and in two. Each runs in a separate process, ours with its default number of workers; imports are not
    counted. ``ratio`` is our time divided by that of TRL's defaults, ``ratio_best`` by that of the faster of both, from
    the medians of alternating rounds.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from pathlib import Path

from benchmarks.comparison import OURS, argument_parser, run, write_inputs

RUNNERS = {
    OURS: ("benchmarks.data_tunesmith", ()),
    "trl": ("benchmarks.data_trl", ("default",)),
    "trl_processes": ("benchmarks.data_trl", ("processes",)),
}


def main() -> None:
    given = argument_parser(__doc__, "dolly's format", rounds=3, records=6000).parse_args()
    seconds: dict[str, list[float]] = {name: [] for name in RUNNERS}
    with tempfile.TemporaryDirectory() as directory:
        write_inputs("benchmarks.sft_inputs", Path(directory), given, "--no-model")
        result = Path(directory) / "result.json"
        for number in range(given.rounds):
            for name, (module, mode) in RUNNERS.items():
                run(module, directory, str(result), *mode)
                seconds[name].append(float(json.loads(result.read_text(encoding="utf-8"))["seconds"]))
                print(f"round {number + 1}  {name:13} {seconds[name][-1]:7.2f} s", flush=True)
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    best = min(value for name, value in medians.items() if name != OURS)
    ratios = {"ratio": medians[OURS] / medians["trl"], "ratio_best": medians[OURS] / best}
    for name, value in ratios.items():
        print(f"{name:10} {value:.3f}")
    found = {**ratios, "records": given.records, "seconds": seconds}
    if given.json:
        given.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
