"""Everything that only a GPU can show, in one script of less than ten minutes on one H200.

    python -m tests.campaigns.gpu [--only SECTION ...] [--json FILE]
    python -m tests.campaigns.gpu --cpu-rehearsal

It prints a table: figure, target, pass or FAIL; the exit code is 1 if a target is missed. Nothing is downloaded; models
have random weights that are made on the device. The rehearsal runs the whole script on a CPU at a small size, with the
attention kernels replaced by their rules; it shows that the script works, and nothing about a GPU.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

import torch

from tests.campaigns.gpu_checks import kernels, runs, self_tests, versions
from tests.campaigns.gpu_figures import Campaign, Figure, table
from tests.campaigns.gpu_speed import speed
from tunesmith.compose.process import use_deterministic_algorithms

NO_DEVICE = "there is no CUDA device; --cpu-rehearsal runs this script at a small size on a CPU"


def _runs(campaign: Campaign) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as directory:
        yield from runs(campaign, Path(directory))


def _peer(campaign: Campaign) -> Iterator[Figure]:
    if find_spec("trl") is None:
        yield Figure("TRL", "not installed")
        return
    yield from importlib.import_module("tests.campaigns.gpu_peer").peer(campaign)


SECTIONS: Mapping[str, Callable[[Campaign], Iterator[Figure]]] = {
    "versions": versions,
    "kernels": kernels,
    "self-test": self_tests,
    "runs": _runs,
    "speed": speed,
    "trl": _peer,
}


def measure(campaign: Campaign, sections: Sequence[str]) -> list[Figure]:
    """All figures, each printed to standard error when it is known. An error is a figure that fails."""
    found: list[Figure] = []
    for name in sections:
        began = time.perf_counter()
        try:
            for figure in SECTIONS[name](campaign):
                found.append(figure)
                print(f"{figure.what}: {figure.found} {figure.mark}".rstrip(), file=sys.stderr, flush=True)
        except Exception as error:  # the other sections are still worth their minutes
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            found.append(Figure(f"section {name}", f"{type(error).__name__}: {reason}", "no error", False))
            print(f"section {name} failed: {reason}", file=sys.stderr, flush=True)
        campaign.free()
        found.append(Figure(f"section {name}", f"{time.perf_counter() - began:.0f} s"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpu-rehearsal", action="store_true")
    parser.add_argument("--only", nargs="+", choices=[*SECTIONS], default=[*SECTIONS])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if not options.cpu_rehearsal and not torch.cuda.is_available():
        raise SystemExit(NO_DEVICE)
    device = torch.device("cpu") if options.cpu_rehearsal else torch.device("cuda", 0)
    use_deterministic_algorithms(True, device)
    torch.set_float32_matmul_precision("highest")
    found = measure(Campaign(device, options.cpu_rehearsal), options.only)
    print(table(found))
    if options.json:
        options.json.write_text(json.dumps([asdict(each) for each in found], indent=2) + "\n")
    missed = [each.what for each in found if each.passed is False]
    if missed:
        raise SystemExit(f"{len(missed)} targets are missed: {', '.join(missed)}")


if __name__ == "__main__":
    main()
