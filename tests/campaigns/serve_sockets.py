"""500 connections with malformed requests to a running server: right answers, in time, and a server that goes on.

python -m tests.campaigns.serve_sockets [--cases 500] [--seed 0]
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
import time
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

from tests.serve.app.raw_requests import RawCase, fixed_cases, random_cases, send
from tests.serve.served import LOG, end_models, new_models, new_parts, running_server
from tunesmith.serve.app.settings import ServerSettings

LARGEST_GROWTH = 20.0  # MB of resident memory


def check(port: int, case: RawCase) -> str | None:
    """What is wrong with the answer to a case; None for nothing."""
    try:
        status, received = send(port, case)
    except TimeoutError:
        return f"{case.name}: neither answered nor closed"
    if status not in case.wanted:
        return f"{case.name}: {status}, {received[:200]!r}"
    return None


def resident() -> float:
    """MB of memory of this process, in which the server runs."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    fixed = list(fixed_cases())
    cases = [*fixed, *random_cases(max(0, options.cases - len(fixed)), random.Random(options.seed))]
    faults, seconds, counts = list[str](), list[float](), Counter[int]()
    with tempfile.TemporaryDirectory() as directory:
        models = new_models(Path(directory), names=["chatml"])
        parts = new_parts(models, ServerSettings(port=0))
        with running_server(parts) as address:
            port = urlsplit(address).port or 0
            check(port, fixed[0])
            before = resident()
            for case in cases:
                begin = time.perf_counter()
                fault = check(port, case)
                seconds.append(time.perf_counter() - begin)
                faults += [] if fault is None else [fault]
            alive, growth = check(port, fixed[0]) is None, resident() - before
        counts.update(status for (_, status), number in parts.counters.answered.items() for _ in range(number))
        end_models(models)
    print(f"{len(cases) - len(faults)} of {len(cases)} cases right, the slowest took {max(seconds):.2f} s")
    print(f"statuses: {dict(sorted(counts.items()))}; memory grew by {growth:.1f} MB; alive: {alive}")
    if faults or LOG or not alive or growth > LARGEST_GROWTH:
        raise SystemExit("\n".join([*faults, *LOG, "a case failed, or the server did not go on as before"]))


if __name__ == "__main__":
    main()
