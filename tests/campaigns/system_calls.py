"""Kill, or one error, at every call that changes a file of a run: what is complete stays, and the run can continue.

    python -m tests.campaigns.system_calls [--every 1] [--faults kill EIO ...] [--work train export] [--results FILE]

A tiny run of supervised fine-tuning is trained by `tunesmith train` in a forked child. A library that is compiled from
``system_calls.c`` counts its calls below the directories of run and cache (token store, records, checkpoints, rotation,
export) and injects a fault into one of them; faults that stay are begun at every fourth call. A trial holds if

- a killed process leaves a run, and one with an error ends with 0 or 74, without a traceback;
- a checkpoint that was called saved, or a later one, is there and valid, and an export that was complete still
  is;
- the same command then ends with 0, and every file of the run equals that of a run without a fault.

A finished trial is a line of the results, and is not done again if it has held.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

import tests.campaigns.imported_before  # noqa: F401
from tests.campaigns.exit_codes import exit_code_of
from tests.campaigns.system_calls_library import FAULTS, compile_library
from tests.worlds import write_world
from tunesmith.cli.main import main as run_command
from tunesmith.errors import StorageError
from tunesmith.model.export_manifest import EXPORT_MANIFEST
from tunesmith.train.run.checkpoint import latest_attempts, read

WORK = ("train", "export")
"""A new run; a finished run whose export has lost its list, so that it is written again."""

STAYING_EVERY = 4
"""A disk on which everything fails from one call on is tried at every fourth call, since neighbours end alike."""

KEYS = (
    *("train.steps=3", "train.save_every=1", "train.evaluate_every=null", "train.keep=1", "text.max_length=100"),
    *("data.validation=4", "evaluate.show=0"),
)
VOLATILE = ("timing.jsonl", "manifest.json", "status.json", "index.html", "lock", "README.md")
"""Files with times, or with every start of a run."""

SAVED = re.compile(r"checkpoint saved at step (\d+)")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one trial has shown.

    work, fault, number: the trial; number is that of the call.
    call: the call that met the fault; empty if the work had fewer calls.
    code: exit code of the process with the fault, negative for a signal.
    calls: that it made.
    wrong: what does not hold; empty if the trial holds.
    """

    work: str
    fault: str
    number: int
    call: str
    code: int
    calls: int
    wrong: tuple[str, ...]


class World:
    """A tiny run, what it becomes without a fault, and trials of it.

    root: an empty directory; run and cache are always at the same places below it.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.run, self.cache = root, root / "run", root / "cache"
        self.recipe, self.log, self.facts = write_world(root), root / "log.txt", root / "facts.json"
        self.train(*FAULTS["none"], 0)
        self.expected = contents(self.run)
        shutil.copytree(self.run, root / "finished")
        shutil.copytree(self.cache, root / "finished-cache")

    def count(self, work: str) -> int:
        """The calls of one kind of work without a fault."""
        return self.trial(work, "none", 0).calls

    def trial(self, work: str, fault: str, number: int) -> Outcome:
        """Do the work with one fault, then without, and compare."""
        self.prepare(work)
        code, calls, call = self.train(*FAULTS[fault], number)
        wrong = list(self.find_wrong_end(code, killed=fault == "kill" and bool(call)))
        if work == "export" and (changed := differences(self.expected, contents(self.run), "export/")):
            wrong.append(f"the export is not complete: {changed}")
        again, _, _ = self.train(*FAULTS["none"], 0)
        if again != 0:
            wrong.append(f"the next start ended with {again}: {self.last_line()}")
        elif changed := differences(self.expected, contents(self.run), ""):
            wrong.append(f"after the next start: {changed}")
        return Outcome(work, fault, number, call, code, calls, tuple(wrong))

    def prepare(self, work: str) -> None:
        """Put run and cache into the state before the work."""
        for path in (self.run, self.cache):
            shutil.rmtree(path, ignore_errors=True)
        if work == "export":
            shutil.copytree(self.root / "finished", self.run)
            shutil.copytree(self.root / "finished-cache", self.cache)
            (self.run / "export" / EXPORT_MANIFEST).unlink()

    def find_wrong_end(self, code: int, *, killed: bool) -> Iterator[str]:
        """What is wrong about the end of the process with the fault, and about what it said."""
        text = self.log.read_text(errors="replace")
        if killed != (code == -signal.SIGKILL) or (not killed and code not in (0, StorageError.exit_code)):
            yield f"ended with {code}: {self.last_line()}"
        if "Traceback" in text:
            yield f"a traceback: {self.last_line()}"
        if steps := [int(step) for step in SAVED.findall(text)]:
            found = latest_attempts(self.run / "checkpoints")
            if max(found, default=0) < steps[-1]:  # a rotation may come before a message, but not before its checkpoint
                yield f"step {steps[-1]} was said to be saved, and there are {sorted(found)}"
            else:
                read(found[max(found)])

    def last_line(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else ""

    def train(self, fault: int, stays: bool, number: int) -> tuple[int, int, str]:
        """Train in a forked child; returns its exit code, the calls it made, and the call that met the fault."""
        self.facts.write_text('["", 0]')
        self.log.write_text("")
        child = os.fork()
        if child == 0:
            os._exit(self._train_here(fault, stays, number))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        call, calls = json.loads(self.facts.read_text())
        return code, calls, call if code != -signal.SIGKILL else "killed"

    def _train_here(self, fault: int, stays: bool, number: int) -> int:
        output = os.open(self.log, os.O_WRONLY | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.argv = ["tunesmith", "train", str(self.recipe), *KEYS]
        library = ctypes.CDLL(None)
        library.met_call.restype = ctypes.c_char_p
        library.arm(os.fsencode(self.run), os.fsencode(self.cache), ctypes.c_long(number), fault, stays)
        code = exit_code_of(run_command)
        library.disarm()
        self.facts.write_text(json.dumps([library.met_call().decode(), library.calls()]))
        return code


def contents(run: Path) -> dict[str, str]:
    """SHA-256 of every file of a run that is always the same."""
    return {
        path.relative_to(run).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(run.rglob("*"))
        if path.is_file() and path.name not in VOLATILE and path.name != EXPORT_MANIFEST
    }


def differences(expected: Mapping[str, str], found: Mapping[str, str], prefix: str) -> str:
    """The first names with the prefix that are missing, too many or different; empty if there are none."""
    names = sorted(name for name in {*expected, *found} if name.startswith(prefix))
    words = []
    for name in names:
        if expected.get(name) != found.get(name):
            what = "is missing" if name not in found else "is too many" if name not in expected else "differs"
            words.append(f"{name} {what}")
    return ", ".join(words[:4]) + (f" and {len(words) - 4} more" if len(words) > 4 else "")


def read_results(path: Path | None) -> dict[tuple[str, str, int], Outcome]:
    """The trials that are done already and have held; the last line of each counts."""
    if path is None or not path.is_file():
        return {}
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    found = [Outcome(**{**line, "wrong": tuple(line["wrong"])}) for line in lines]
    last = {(each.work, each.fault, each.number): each for each in found}
    return {trial: each for trial, each in last.items() if not each.wrong}


def summarize(outcomes: Sequence[Outcome]) -> dict[str, str]:
    """Work and fault -> "held/all" of the trials in which a call met the fault."""
    found: dict[str, list[bool]] = {}
    for each in outcomes:
        if each.call:
            found.setdefault(f"{each.work} {each.fault}", []).append(not each.wrong)
    return {name: f"{sum(held)}/{len(held)}" for name, held in found.items()}


def campaign(root: Path, options: argparse.Namespace) -> list[Outcome]:
    done, outcomes = read_results(options.results), list[Outcome]()
    world = World(root)
    for work in options.work:
        calls = world.count(work)
        print(f"{work}: {calls} calls", file=sys.stderr, flush=True)
        for fault in options.faults:
            step = options.every * (STAYING_EVERY if FAULTS[fault][1] else 1)
            for number in range(options.first, calls, step):
                outcome = done.get((work, fault, number))
                if outcome is None:
                    began = time.monotonic()
                    outcome = world.trial(work, fault, number)
                    if options.results is not None:
                        with options.results.open("a") as file:
                            file.write(json.dumps(asdict(outcome)) + "\n")
                    seconds = time.monotonic() - began
                    for what in outcome.wrong:
                        print(f"{work} {fault} at call {number} ({outcome.call}), {seconds:.1f} s: {what}", flush=True)
                outcomes.append(outcome)
            print(json.dumps(summarize(outcomes)), file=sys.stderr, flush=True)
    return outcomes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=1, help="only every n-th call")
    parser.add_argument("--first", type=int, default=0, help="the first call")
    parser.add_argument("--faults", nargs="+", choices=FAULTS, default=[name for name in FAULTS if name != "none"])
    parser.add_argument("--work", nargs="+", choices=WORK, default=WORK)
    parser.add_argument("--json", type=Path, help="the figures")
    parser.add_argument("--results", type=Path, help="a line for every trial; those in it are not done again")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory).resolve()
        if "LD_PRELOAD" not in os.environ:  # the library has to be there before the first call
            environment = {**os.environ, "LD_PRELOAD": str(compile_library(root))}
            words = [sys.executable, "-m", "tests.campaigns.system_calls", *sys.argv[1:]]
            raise SystemExit(subprocess.run(words, env=environment, check=False).returncode)
        torch.set_num_threads(1)
        outcomes = campaign(root, options)
    text = json.dumps(summarize(outcomes), indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")
    met = [each for each in outcomes if each.call]
    print(f"{sum(not each.wrong for each in met):,}/{len(met):,} calls with a kill or an error ended right")
    if any(each.wrong for each in outcomes):
        raise SystemExit("some trials do not hold")


if __name__ == "__main__":
    main()
