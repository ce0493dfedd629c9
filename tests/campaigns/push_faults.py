"""Upload to a hub that fails in every way at every request, and look at what everybody can see of it.

    python -m tests.campaigns.push_faults [--kinds 503 lost] [--json FILE]

First the requests of an upload are counted, into no repository and into one with older files. Then each of them fails,
only once and with all that follow: with HTTP 403, 404, 429, 500 and 503; with an answer that breaks off before and
after the request was carried out; with a damaged body; without a connection; and without an answer. At every moment,
the main branch has to be the old or the new one, private until the end, and with its gate before any file. The command
has to succeed, or to say what to do, and the next one has to complete it.

At the end, `tunesmith push` runs against hubs that fail for good, with all its waiting. It has to end, and to print
something in between.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from threading import Thread
from typing import Any

from tests.publish.hub.faults import KINDS, Case, count_requests, try_case, without_waiting, write_files
from tests.publish.hub.server import TOKEN, Fault, serve_hub

TREE = 4
"""The first request that the client library repeats."""
LONGEST_SILENCE = 70.0
"""Seconds without a line: the time that an answer is waited for, and some for the rest."""


def cases(kinds: Sequence[str | int], requests: dict[bool, int]) -> Iterator[Case]:
    for older, count in requests.items():
        for kind in kinds:
            for request in range(count):
                for lasting in (False, True):
                    yield Case(kind, request, lasting, older)


def try_all(kinds: Sequence[str | int]) -> dict[str, Any]:
    """Figures of all cases."""
    broken: list[str] = []
    ended: Counter[str] = Counter()
    longest, number = 0.0, 0
    with tempfile.TemporaryDirectory() as directory, without_waiting() as waited:
        files = write_files(Path(directory))
        requests = {older: count_requests(files, older=older) for older in (False, True)}
        for number, case in enumerate(cases(kinds, requests), start=1):
            outcome = try_case(case, files, waited)
            broken.extend(f"{case}: {what}" for what in outcome.broken)
            ended[f"{case.kind} {'succeeded' if outcome.error is None else 'refused with advice'}"] += 1
            longest = max(longest, outcome.waited)
            if number % 50 == 0 or outcome.broken:
                print(f"{number} cases, {len(broken)} broken", *broken[-1:], file=sys.stderr, flush=True)
    return {
        "requests": {"no repository": requests[False], "older files": requests[True]},
        "cases": number,
        "broken": broken,
        "ended": dict(sorted(ended.items())),
        "longest_waiting_between_attempts_s": longest,
    }


def time_command(kind: str | int) -> dict[str, Any]:
    """Seconds from the first answer to the end of `tunesmith push` if the hub fails for good, and without a line."""
    with tempfile.TemporaryDirectory() as directory, serve_hub() as hub:
        write_files(Path(directory))
        hub.fault = Fault(TREE, kind, lasting=True)
        environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "0"}
        command = [sys.executable, "-m", "tunesmith", "push", directory, "hub:me/model"]
        answered: list[float] = []
        hub.seen = lambda: answered.append(time.monotonic())
        with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            lines: list[tuple[float, str]] = []
            reader = Thread(target=lambda: lines.extend((time.monotonic(), line) for line in process.stderr or ()))
            reader.start()
            code = process.wait()
            reader.join()
        # From the first answer on: starting Python takes long on a busy machine.
        moments = [answered[0], *(moment for moment, _ in lines if moment > answered[0]), time.monotonic()]
    return {
        "seconds": round(moments[-1] - moments[0], 1),
        "longest_silence_s": round(max(after - before for before, after in pairwise(moments)), 1),
        "exit_code": code,
        "lines": [line.strip() for _, line in lines],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", default=[str(each) for each in KINDS])
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    options = parser.parse_args()
    figures = try_all([int(each) if each.isdecimal() else each for each in options.kinds])
    failed = len({what.rpartition(": ")[0] for what in figures["broken"]})
    figures["command"] = {str(kind): time_command(kind) for kind in (503, "cut", "silent")}
    for kind, timed in figures["command"].items():
        print(
            f"a hub that fails for good ({kind}): {timed['seconds']} s, {timed['longest_silence_s']} s without a line"
        )
    text = json.dumps(figures, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n", encoding="utf-8")
    print(f"{figures['cases'] - failed}/{figures['cases']} uploads with a fault were all or nothing, and completed")
    unclear = [
        kind
        for kind, timed in figures["command"].items()
        if timed["exit_code"] != 74 or timed["longest_silence_s"] > LONGEST_SILENCE
    ]
    if figures["broken"] or unclear:
        raise SystemExit(f"{failed} uploads, commands against {unclear}")


if __name__ == "__main__":
    main()
