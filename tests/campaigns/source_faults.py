"""Plants one fault after the other into a copy of the package: the tests that guard the place have to fail.

    python -m tests.campaigns.source_faults [--guards NAMES] [--results FILE] [--json FILE]

A fault is caught if a test fails by an assertion or by an error of Tunesmith. An error of Python in between, a test
that cannot be collected and one that never ends catch nothing: they say that the fault is not one that stays silent.
First all tests that are named run without a fault, and have to pass.

Every trial is a forked child of a process that has loaded the libraries and nothing of the package. With ``--results``
a fault that was caught is not tried again until it, its file or the files of its tests change.
"""

from __future__ import annotations

import argparse
import compileall
import importlib
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from py_compile import PycInvalidationMode
from typing import Any

import pytest
from hypothesis import Phase, settings

from tests.campaigns.planted.fault import REPOSITORY, PlantedFault
from tests.campaigns.planted.lists import GUARDS

LIBRARIES = (
    *("hypothesis", "pyarrow", "pydantic", "yaml", "rich.progress", "sympy", "scipy.stats", "sacrebleu", "accelerate"),
    *("torch.distributed.tensor", "torch.distributed.fsdp", "torch.nn.attention.flex_attention", "safetensors.torch"),
    *("transformers.models.llama.modeling_llama", "transformers.models.gpt_neox.modeling_gpt_neox", "huggingface_hub"),
)
"""What most tests import, in the process that children are forked from."""
LIMIT = 120
"""Seconds of a processor for the tests of one fault. Of a busy machine a process may get little."""
WAITING = 1800.0
"""Seconds until a process that waits for something is ended."""
PLUGINS = ("pytest_timeout", "_hypothesis_pytestplugin")
OPTIONS = ("-x", "-q", "-p", "no:cacheprovider", "-o", "timeout=0", *(f"-p{name}" for name in PLUGINS))
REFUSALS = frozenset({"AssertionError", "Failed", "TunesmithError"})
"""Names of classes: a failure counts if its error is one of these or derived from one."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed test.

    test: its name.
    when: setup, call or collect.
    classes: names of the class of its error and of all classes above.
    text: of the error.
    """

    test: str
    when: str
    classes: tuple[str, ...]
    text: str

    @property
    def is_refusal(self) -> bool:
        """Whether an assertion failed, or Tunesmith refused what the fault has made."""
        return self.when != "collect" and not REFUSALS.isdisjoint(self.classes)


@dataclass(frozen=True, slots=True)
class Trial:
    """What the tests of one fault, or those without a fault, have shown.

    passed: names of the tests that passed.
    failures: those that failed; with a fault at most one.
    ended: how the process ended, if it did not end by itself.
    seconds: wall-clock time.
    """

    passed: tuple[str, ...]
    failures: tuple[Failure, ...]
    ended: str
    seconds: float

    @property
    def verdict(self) -> str:
        """``caught``, ``survived`` or why neither is known."""
        if self.ended:
            return self.ended
        if not self.failures:
            return "survived" if self.passed else "no test has run"
        first = self.failures[0]
        return "caught" if first.is_refusal else f"{first.when} ended with {first.classes[0]}: {first.text}"


class _Recorder:
    """A plugin of pytest that keeps what passed and what failed."""

    def __init__(self) -> None:
        self.passed: list[str] = []
        self.failures: list[Failure] = []

    def pytest_configure(self) -> None:
        """The examples of hypothesis are the same every time, and a failure is not made shorter."""
        phases = (Phase.explicit, Phase.generate)
        settings.register_profile("faults", deadline=None, derandomize=True, database=None, phases=phases)
        settings.load_profile("faults")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.passed:
            self.passed.append(report.nodeid)

    def pytest_exception_interact(self, call: pytest.CallInfo[Any], report: pytest.TestReport) -> None:
        assert call.excinfo is not None
        errors = list(_flat(call.excinfo.value))
        classes = dict.fromkeys(each.__name__ for error in errors for each in type(error).__mro__)
        text = " ".join(str(errors[0]).split())[:200]
        self.failures.append(Failure(report.nodeid, getattr(report, "when", None) or "collect", tuple(classes), text))


def _flat(error: BaseException) -> Iterator[BaseException]:
    """An error, or the errors of a group: hypothesis raises one for several different failures."""
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _flat(each)
    else:
        yield error


class PackageCopy:
    """A copy of the package and its tests, in which faults are planted.

    root: an empty directory.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.report, self.log = root, root / "report.json", root / "log.txt"
        ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
        for name in ("tunesmith", "tests"):
            shutil.copytree(REPOSITORY / name, root / name, ignore=ignored)
        shutil.copy2(REPOSITORY / "pyproject.toml", root)
        # Compiled files are found by a hash of the source: a fault may leave the size and the second of a file alone.
        compileall.compile_dir(root / "tunesmith", quiet=2, invalidation_mode=PycInvalidationMode.CHECKED_HASH)

    def trial(self, tests: Sequence[str], fault: PlantedFault | None = None, limit: int = LIMIT) -> Trial:
        """Run tests with a fault, or without one."""
        if fault is None:
            return self._run(tests, limit)
        path = self.root / fault.path
        text = path.read_bytes()
        fault.apply(self.root)
        try:
            return self._run(tests, limit)
        finally:
            path.write_bytes(text)

    def _run(self, tests: Sequence[str], limit: int) -> Trial:
        self.report.unlink(missing_ok=True)
        began = time.monotonic()
        child = os.fork()
        if child == 0:
            os._exit(self._test_here(tests, limit))
        ended = _wait(child)
        seconds = round(time.monotonic() - began, 1)
        if not self.report.is_file():
            return Trial((), (), ended or f"the tests did not end: {self.last_line()}", seconds)
        found = json.loads(self.report.read_text())
        failures = tuple(Failure(**{**each, "classes": tuple(each["classes"])}) for each in found["failures"])
        return Trial(tuple(found["passed"]), failures, ended, seconds)

    def _test_here(self, tests: Sequence[str], limit: int) -> int:
        """Run pytest in this process, which is a child with nothing of the package loaded; its exit code."""
        try:
            os.setsid()
            resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
            output = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.chdir(self.root)
            os.environ["PYTHONPATH"] = str(self.root)
            os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
            sys.path[:] = [str(self.root), *(each for each in sys.path if Path(each).resolve() != REPOSITORY)]
            for name in [name for name in sys.modules if name.partition(".")[0] in ("tests", "tunesmith")]:
                del sys.modules[name]
            recorder = _Recorder()
            code = pytest.main([*OPTIONS, *tests], plugins=[recorder])
            failures = [asdict(each) for each in recorder.failures]
            self.report.write_text(json.dumps({"passed": recorder.passed, "failures": failures}))
            return int(code)
        except BaseException:
            traceback.print_exc()
            return 1
        finally:
            sys.stdout.flush()
            sys.stderr.flush()

    def last_line(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines() if self.log.is_file() else []
        return lines[-1][:300] if lines else ""


def _wait(child: int) -> str:
    """Wait for a child, and end it and all that it has started after a time; how it ended if not by itself."""
    end = time.monotonic() + WAITING
    while time.monotonic() < end:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            code = os.waitstatus_to_exitcode(status)
            return f"killed by {signal.Signals(-code).name}" if code < 0 else ""
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return f"no end within {WAITING:.0f} seconds"


def check_without_faults(copy: PackageCopy, faults: Collection[PlantedFault]) -> list[str]:
    """Run all tests once without a fault; returns what is wrong with them."""
    tests = list(dict.fromkeys(test for fault in faults for test in fault.node_ids))
    trial = copy.trial(tests, limit=20 * LIMIT)
    wrong = [f"without a fault {each.test} fails: {each.text}" for each in trial.failures]
    if trial.ended:
        wrong.append(f"without a fault: {trial.ended}")
    if not trial.passed:
        wrong.append(f"without a fault no test runs: {copy.last_line()}")
    if not wrong:
        wrong += [f"without a fault {test} does not run" for test in tests if not _has_passed(test, trial.passed)]
    print(f"without a fault: {len(trial.passed)} tests passed in {trial.seconds:.0f} s", file=sys.stderr, flush=True)
    return wrong


def _has_passed(test: str, passed: Collection[str]) -> bool:
    """Whether a test, or one of its cases, has passed."""
    return any(each == test or each.startswith((f"{test}[", f"{test}::")) for each in passed)


def read_results(path: Path | None) -> dict[str, dict[str, Any]]:
    """Digest of a fault -> the line of its trial, for those that were caught."""
    if path is None or not path.is_file():
        return {}
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return {line["digest"]: line for line in lines if line["verdict"] == "caught"}


def campaign(copy: PackageCopy, options: argparse.Namespace) -> dict[str, Counter[str]]:
    """Try all faults; guard -> verdict -> how many."""
    chosen = {guard: GUARDS[guard] for guard in options.guards}
    done, found = read_results(options.results), dict[str, Counter[str]]()
    waiting = [each for faults in chosen.values() for each in faults if each.digest(REPOSITORY) not in done]
    if waiting and not options.unchecked and (wrong := check_without_faults(copy, waiting)):
        raise SystemExit("\n".join(wrong))
    for guard, faults in chosen.items():
        counts = found.setdefault(guard, Counter())
        for fault in faults:
            digest = fault.digest(REPOSITORY)
            if digest not in done:
                trial = copy.trial(fault.node_ids, fault)
                by = trial.failures[0].test if trial.failures else ""
                done[digest] = {
                    **{"digest": digest, "guard": guard, **asdict(fault)},
                    **{"verdict": trial.verdict, "by": by, "seconds": trial.seconds},
                }
                if options.results:
                    with options.results.open("a") as file:
                        file.write(json.dumps(done[digest]) + "\n")
            verdict = done[digest]["verdict"]
            counts[verdict if verdict in ("caught", "survived") else "unclear"] += 1
            if verdict != "caught" or options.verbose:
                print(f"{fault.path}: {fault.new!r}: {verdict} {done[digest]['by']}", flush=True)
        if faults:
            print(f"{guard}: {counts['caught']} of {len(faults)} caught", file=sys.stderr, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--guards", nargs="+", choices=GUARDS, default=tuple(GUARDS), help="only the faults of these")
    parser.add_argument("--results", type=Path, help="a line for every trial; a fault that was caught is not repeated")
    parser.add_argument("--json", type=Path, help="the figures")
    parser.add_argument("--unchecked", action="store_true", help="do not run the tests without faults first")
    parser.add_argument("--verbose", action="store_true", help="also name the tests that caught the faults")
    options = parser.parse_args()
    os.environ.setdefault("TUNESMITH_REAL_DATA", str(REPOSITORY.parent / "shared" / "data"))
    began = time.monotonic()
    for name in LIBRARIES:
        importlib.import_module(name)
    assert not any(name.partition(".")[0] == "tunesmith" for name in sys.modules), (
        "children would have it without faults"
    )
    with tempfile.TemporaryDirectory() as directory:
        found = campaign(PackageCopy(Path(directory).resolve()), options)
    total = sum(found.values(), Counter[str]())
    text = json.dumps({"guards": {name: dict(each) for name, each in found.items()}, "all": dict(total)}, indent=2)
    print(text)
    print(f"all tried in {time.monotonic() - began:.0f} s", file=sys.stderr)
    print(f"{total['caught']}/{total.total()} planted faults were found by a test", flush=True)
    if options.json:
        options.json.write_text(text + "\n")
    if total["caught"] < total.total():
        raise SystemExit("some faults were not caught")


if __name__ == "__main__":
    main()
