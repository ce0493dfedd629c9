"""Every prompt format with many random conversations: what ``tests/text/test_properties.py`` checks, at length.

    python -m tests.campaigns.formats [--examples 10000] [--seed 0] [--only NAME ...] [--json FILE]

Half of the conversations hold control tokens, parts of them, the marks of templates and unusual characters; the other
half is compared token by token with stock transformers on the exported template.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.text.properties import KINDS, SUBJECTS, Subject, check, conversations, open_subject


def campaign(subjects: dict[str, Subject], name: str, examples: int, start: int) -> dict[str, object]:
    """Check ``examples`` conversations of one format; what was found, as a row of the table."""
    row: dict[str, object] = {"format": name, "examples": 0, "compared": 0, "failed": ""}
    done = compared = 0
    began = shown = time.monotonic()

    @seed(start)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(conversation=conversations(name), kind=st.sampled_from(KINDS))
    def drawn(conversation: tuple, kind: str) -> None:  # type: ignore[type-arg]
        nonlocal done, compared, shown
        messages, harmless = conversation
        check(subjects[kind], messages, harmless)
        done, compared = done + 1, compared + harmless
        if time.monotonic() - shown > 5:
            shown = time.monotonic()
            print(f"\r{name}: {done:,} of {examples:,} ", end="", file=sys.stderr, flush=True)

    try:
        drawn()
    except Exception as error:  # whatever it is, the other formats are still tried
        row["failed"] = "\n".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())])
    return {**row, "examples": done, "compared": compared, "seconds": round(time.monotonic() - began, 1)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", choices=SUBJECTS, default=SUBJECTS)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        for name in arguments.only:
            subjects = {kind: open_subject(name, kind, Path(directory)) for kind in KINDS}
            rows.append(campaign(subjects, name, arguments.examples, arguments.seed))
            last = rows[-1]
            line = f"{name:20} {last['examples']:>8,} checked, {last['compared']:>7,} of them token by token"
            print(f"\r{line}, {last['seconds']:>7} s  {'FAILED' if last['failed'] else 'held'}", flush=True)
            if last["failed"]:
                print(last["failed"], flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    return 1 if any(row["failed"] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
