"""Damaged files by the thousand are read and prepared: a clear error or a valid result, and nothing half-written.

    python -m tests.campaigns.fuzz [--inputs 20000] [--seed 0] [--only NUMBER] [--json FILE]

Every input follows from the seed and its number. Batches run in forked children, so that even the death of a process is
found with its number. Violations are: any error that is not one of ours, one of ours without a place, without advice or
not in one short line, an exit code other than 65 or 66, records that are not accounted for, a store that does not
match its index, anything left in the cache after an error, more than ten seconds for one input, a dead process.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow

from tests.campaigns.mutations import make_input
from tests.data.bad_records import SETTINGS
from tests.data.small_runs import left
from tests.text.small_tokenizers import byte_level, write_tokenizer
from tunesmith.batch.example import Example
from tunesmith.batch.packed import assemble_packed
from tunesmith.compose.models.families import PACKED
from tunesmith.data.dataset.duplicates import DuplicateSettings
from tunesmith.data.dataset.faults import STRICT, BadRows
from tunesmith.data.dataset.prepare import prepare
from tunesmith.data.dataset.rendering import RenderSettings, RowChunk, Work, load_renderer, render_rows
from tunesmith.data.readers.pipeline import Pipeline
from tunesmith.data.readers.source_config import SourceConfig
from tunesmith.data.sources.source import open_source, read_rows
from tunesmith.errors import DataError, MissingInputError, TunesmithError
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tokens.token_tree import TokenTree

BATCH = 250
PREPARED = 5  # one input of so many goes through the whole preparation, the others through reading and rendering
SLOW = 10.0  # seconds
LONGEST_LINE = 1500


class Violation(Exception):
    """Something happened that must never happen."""


@lru_cache
def loaded(settings: RenderSettings) -> Renderer:
    return load_renderer(settings)


def check_error(error: TunesmithError, path: Path) -> None:
    """Whether an error says in one line where something is wrong and what to do."""
    if not isinstance(error, DataError | MissingInputError):
        raise Violation(f"{type(error).__name__}, exit code {error.exit_code}: {error}")
    several = error.where is None and "records cannot be used" in error.what
    nothing = error.where is None and "is left" in error.what
    if not (several or nothing or str(error.where).startswith(str(path))):
        raise Violation(f"no place: {error}")
    if not error.advice:
        raise Violation(f"no advice: {error}")
    lines = str(error).splitlines()
    if len(lines) > 22 or (len(lines) > 1 and not several) or max(map(len, lines)) > LONGEST_LINE:
        raise Violation(f"not a short line: {str(error)[:2000]!r}")


def read_all(path: Path, spec: SourceConfig, settings: RenderSettings) -> Counter[str]:
    """Read and render every row; what came of them."""
    outcome: Counter[str] = Counter()
    work = Work(settings, "", (spec,))
    for entry in Pipeline(spec).group(read_rows(open_source(spec.path, spec.split))):
        if isinstance(entry, DataError):
            check_error(entry, path)
            outcome["not a record"] += 1
            continue
        rendered = render_rows(work, loaded(settings), RowChunk(0, (entry,)))
        for fault in rendered.faults:
            check_error(DataError(fault.what, where=fault.where, advice=fault.advice), path)
            outcome["record refused"] += 1
        if not rendered.faults:
            rendered.counts.check()
        outcome["record used"] += rendered.trees.records
    return outcome


def prepare_all(spec: SourceConfig, settings: RenderSettings, cache: Path, draw: random.Random) -> Counter[str]:
    """The whole preparation, bad rows left out or not; a store that comes of it is looked through."""
    bad_rows = draw.choice((STRICT, BadRows(skip=True, limit=1.0), BadRows(skip=True, limit=1)))
    duplicates = DuplicateSettings(draw.choice(("keep", "exact", "near")))
    settings = replace(settings, targets=draw.choice(("assistant", "ranked")))
    truncation = draw.choice(("drop", "right", "error", *(() if settings.targets == "ranked" else ("left", "window"))))
    settings = replace(settings, truncation=truncation)
    try:
        prepared = prepare(
            [spec], settings, validation=0, seed=0, cache=cache, duplicates=duplicates, bad_rows=bad_rows, workers=0
        )
    except TunesmithError:
        if left(cache):
            raise Violation(f"left in the cache: {left(cache)}") from None
        raise
    tally, size = prepared.report.sources["data"], loaded(settings).tokenizer.size
    tally.check()
    for index in range(len(prepared.train)):
        tree = prepared.train.tree(index)
        if tree.ids.min() < 0 or tree.ids.max() >= size or (tree.spans[:, 1] > len(tree.ids)).any():
            raise Violation(f"record {index} of the store is not sound")
        if settings.targets == "ranked":
            check_ranked(index, tree)
    lines = [] if prepared.quarantine is None else prepared.quarantine.read_bytes().splitlines()
    if len(lines) != tally.bad or not all({"place", "reason", "advice"} <= json.loads(line).keys() for line in lines):
        raise Violation(f"{tally.bad} bad rows, {len(lines)} lines in quarantine")
    return Counter({"prepared": 1, f"prepared {settings.targets}": 1, "bad rows in quarantine": len(lines)})


def check_ranked(index: int, tree: TokenTree) -> None:
    """Whether a stored tree has replies of different rank in every group, and becomes a batch that can be proven."""
    ranks: dict[int, set[int]] = {}
    for _, group, rank in tree.replies.tolist():
        ranks.setdefault(group, set()).add(rank)
    example = Example(index, tree)
    fault = PACKED.find_fault([example], assemble_packed([example], "messages"), "messages")
    if not ranks or fault is not None or any(len(several) < 2 for several in ranks.values()):
        raise Violation(f"record {index} of the store cannot be compared: {fault or ranks}")


def try_input(seed: int, number: int, directory: Path, tokenizer: str) -> tuple[Counter[str], str | None]:
    """What came of one input, and the violation if there is one."""
    reader, name, content = make_input(random.Random(f"{seed} {number}"))
    path, cache = directory / name, directory / f"cache-{number}"
    path.write_bytes(content)
    spec = SourceConfig("data", str(path), reader, fields=SETTINGS[reader].fields, options=SETTINGS[reader].options)
    settings = RenderSettings(tokenizer, SETTINGS[reader].format, 300, "right")
    outcome, violation, began = Counter({f"form {name}": 1}), None, time.monotonic()
    try:
        if number % PREPARED == 0:
            outcome += prepare_all(spec, settings, cache, random.Random(f"{seed} {number} settings"))
        else:
            outcome += read_all(path, spec, settings)
            outcome["file read to its end"] += 1
    except TunesmithError as error:
        outcome["prepare refused" if number % PREPARED == 0 else "file refused"] += 1
        try:
            check_error(error, path)
        except Violation as found:
            violation = str(found)
    except Violation as found:
        violation = str(found)
    except BaseException as error:
        violation = f"{type(error).__name__}: {str(error)[:300]}"
    if time.monotonic() - began > SLOW:
        violation = violation or f"took {time.monotonic() - began:.0f} seconds"
    return outcome, violation


def run_batch(seed: int, numbers: range, directory: Path, tokenizer: str) -> tuple[Counter[str], dict[int, str], int]:
    """A batch in a forked child: counts, violations by number, and the peak of its memory in bytes."""
    current, result = directory / "current", directory / "result.json"
    outcome: Counter[str] = Counter()
    violations: dict[int, str] = {}
    peak, start = 0, numbers.start
    while start < numbers.stop:
        child = os.fork()
        if child == 0:
            child_batch(seed, range(start, numbers.stop), directory, tokenizer)
        _, status = os.waitpid(child, 0)
        if status == 0:
            found: dict[str, Any] = json.loads(result.read_text())
            start = numbers.stop
        else:
            start = int(current.read_text()) + 1
            found = {
                "outcome": {"dead process": 1},
                "violations": {start - 1: f"the process died ({status})"},
                "peak": 0,
            }
        outcome.update(found["outcome"])
        violations |= {int(number): what for number, what in found["violations"].items()}
        peak = max(peak, found["peak"])
    return outcome, violations, peak


def child_batch(seed: int, numbers: range, directory: Path, tokenizer: str) -> None:
    """Ends the process."""
    outcome: Counter[str] = Counter()
    violations: dict[int, str] = {}
    code = 1
    try:
        for number in numbers:
            (directory / "current").write_text(str(number))
            found, violation = try_input(seed, number, directory, tokenizer)
            outcome += found
            violations |= {number: violation} if violation else {}
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        text = json.dumps({"outcome": outcome, "violations": violations, "peak": peak})
        (directory / "result.json").write_text(text)
        code = 0
    finally:
        os._exit(code)


def campaign(inputs: int, seed: int, root: Path) -> dict[str, Any]:
    """All inputs."""
    end = "<|endoftext|>"
    tokenizer = str(write_tokenizer(root / "tokenizer", byte_level(), bos=end, eos=end, unk=end))
    outcome: Counter[str] = Counter()
    violations: dict[int, str] = {}
    pyarrow.Table.from_pylist([{"a": 1}])  # imports more, which no child has to do again
    peak, began = 0, time.monotonic()
    for start in range(0, inputs, BATCH):
        with tempfile.TemporaryDirectory(dir=root) as directory:
            numbers = range(start, min(start + BATCH, inputs))
            counted, found, memory = run_batch(seed, numbers, Path(directory), tokenizer)
        outcome, violations, peak = outcome + counted, violations | found, max(peak, memory)
        for number, what in found.items():
            print(f"input {number}: {what}", flush=True)
    seconds = time.monotonic() - began
    return {
        "inputs": inputs,
        "seed": seed,
        "seconds": seconds,
        "peak_memory": peak,
        "outcome": dict(outcome),
        "violations": violations,
    }


def show(seed: int, number: int, root: Path) -> None:
    """One input again, with its traceback if it has one."""
    reader, name, content = make_input(random.Random(f"{seed} {number}"))
    print(f"{name} for the reader {reader}, {len(content):,} bytes: {content[:2000]!r}")
    (root / name).write_bytes(content)
    spec = SourceConfig(
        "data", str(root / name), reader, fields=SETTINGS[reader].fields, options=SETTINGS[reader].options
    )
    tokenizer = str(write_tokenizer(root / "tokenizer", byte_level(), bos="<|endoftext|>", eos="<|endoftext|>"))
    print(read_all(root / name, spec, RenderSettings(tokenizer, SETTINGS[reader].format, 300, "right")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="show one input and what comes of it")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        if given.only is not None:
            show(given.seed, given.only, Path(directory))
            return
        found = campaign(given.inputs, given.seed, Path(directory))
    for name, count in sorted(found["outcome"].items()):
        print(f"  {name:22} {count:8,}")
    right, peak = given.inputs - len(found["violations"]), found["peak_memory"] / 2**20
    print(f"{right:,}/{given.inputs:,} files were read or refused with a reason, at most {peak:.0f} MiB of memory")
    if given.json:
        given.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    sys.exit(bool(found["violations"]))


if __name__ == "__main__":
    main()
