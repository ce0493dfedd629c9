"""Run the campaigns of reliability, and write their figures to a document.

    python -m tests.campaigns.trust [--only NAME ...] [--at-once 2] [--results trust] [--document docs/trust.md]

Each campaign needs one core; two run at once, and their lines begin with their names. The last line that a campaign
prints is its figure; it held if it ended with 0. The results are kept, so the same call goes on where it was
interrupted. A campaign that did not hold, or that was run with other code, is run again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import tunesmith
from tunesmith.files import fingerprint, sha256

PACKAGE = Path(tunesmith.__file__).parent

TEXT = """# Trust

What was done to Tunesmith, and how often it did the right thing. `make trust` runs all of it on two CPU cores, goes on
after an interruption, and writes this page. The short forms are in `make test`. What is not run here may have been run
by itself or in part: [log.md](log.md) has those figures. Minutes are those of the last call, which does not do again
what an earlier one has done; other programs ran at the same time.

| what | figure | command | date | commit | minutes |
|---|---|---|---|---|---:|
"""
KEPT = "{results}"
"""In the words of a campaign: the directory of the results."""


@dataclass(frozen=True)
class Campaign:
    """What is tested. what: a sentence for the document. words: after ``python -m tests.campaigns.``."""

    what: str
    words: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.words[0]


@dataclass(frozen=True)
class Result:
    """How a campaign ended. figure: its last line. date: of its end, in UTC. code: digest of the source files."""

    figure: str
    held: bool
    minutes: float
    date: str
    commit: str
    code: str


CAMPAIGNS: Sequence[Campaign] = (
    Campaign(
        "A run is killed with SIGKILL at random moments and restarted until it ends.", ("sigkill", "--runs", "250")
    ),
    Campaign(
        "A kill or an error (EIO, ENOSPC, short write, ...) at every call that changes a file of a run.",
        ("system_calls", "--results", f"{KEPT}/{{code}}-system_calls.jsonl"),
    ),
    Campaign("Every file of runs and caches is damaged.", ("corruption",)),
    Campaign("NaN, infinities and overflows in weights, gradients, moments, losses, rewards, ...", ("not_finite",)),
    Campaign(
        "Model directories that are malformed or hostile.", ("hostile", "--results", f"{KEPT}/{{code}}-hostile.jsonl")
    ),
    Campaign("Signals in every phase of training.", ("signals",)),
    Campaign("Several trainings at once in one directory or on one cache.", ("two_at_once",)),
    Campaign(
        "Faults planted into the source code of the guards, which tests have to find.",
        ("source_faults", "--results", f"{KEPT}/source_faults.jsonl"),
    ),
    Campaign("`sample` is killed at random moments and continued.", ("sample_kills",)),
    Campaign("`benchmark` is killed at random moments and continued.", ("benchmark_sigkill",)),
    Campaign("An upload to a hub that fails in every way at every request.", ("push_faults",)),
    Campaign("Conversations of the server when it is killed while eight clients write.", ("serve_kills",)),
    Campaign("Streams of the server when it gets signals.", ("serve_signals",)),
    Campaign("Thousands of damaged data files.", ("fuzz",)),
)


def digest_code() -> str:
    """A digest of all source files of Tunesmith, of those too that decide no bit of a run."""
    files = sorted(PACKAGE.rglob("*.py"))
    return fingerprint({str(path.relative_to(PACKAGE)): sha256(path) for path in files})[:12]


def run_campaign(campaign: Campaign, results: Path) -> Result:
    """Run one in a process and print what it prints, each line after the name of the campaign."""
    code = digest_code()
    words = [word.replace(KEPT, str(results)).replace("{code}", code) for word in campaign.words[1:]]
    command = [sys.executable, "-m", f"tests.campaigns.{campaign.name}", *words]
    print(f"{campaign.name}: {campaign.what} ({' '.join(command[1:])})", flush=True)
    begin, figure = time.monotonic(), ""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, errors="replace") as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(f"{campaign.name}: {line}", end="", flush=True)
            figure = line.strip() or figure
    minutes = (time.monotonic() - begin) / 60
    date = f"{datetime.now(UTC):%Y-%m-%d}"
    return Result(figure, process.returncode == 0, round(minutes, 1), date, find_commit(), code)


def find_commit() -> str:
    """The commit of the checkout, with a plus sign if files of the package are changed."""
    git = ["git", "-C", str(PACKAGE.parent)]
    commit = subprocess.run([*git, "describe", "--always"], capture_output=True, text=True, check=False).stdout.strip()
    is_changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", str(PACKAGE)], check=False).returncode
    return f"{commit}+" if is_changed else commit


def write_document(path: Path, campaigns: Sequence[Campaign], found: Mapping[str, Result]) -> None:
    """A table of all campaigns; one that has no result is named as not run."""
    rows = [_row(campaign, found.get(campaign.name)) for campaign in campaigns]
    path.write_text(TEXT + "".join(f"| {' | '.join(row)} |\n" for row in rows), encoding="utf-8")


def _row(campaign: Campaign, result: Result | None) -> tuple[str, ...]:
    command = f"`python -m tests.campaigns.{' '.join(campaign.words).replace(KEPT, 'trust')}`"
    command = command.replace("{code}-", "")
    if result is None:
        return campaign.what, "not run", command, "", "", ""
    figure = result.figure.replace("|", "\\|") if result.held else f"**did not hold**: {result.figure}"
    return campaign.what, figure, command, result.date, result.commit, f"{result.minutes:.1f}"


def read_results(directory: Path) -> dict[str, Result]:
    """Name of a campaign -> its result, of all that have ended."""
    files = sorted(directory.glob("*.json"))
    return {file.stem: Result(**json.loads(file.read_text(encoding="utf-8"))) for file in files}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [campaign.name for campaign in CAMPAIGNS]
    parser.add_argument("--only", choices=names, nargs="+", default=names)
    parser.add_argument("--at-once", type=int, default=2, help="campaigns that run at the same time")
    parser.add_argument("--results", type=Path, default=Path("trust"))
    parser.add_argument("--document", type=Path, default=PACKAGE.parent / "docs" / "trust.md")
    options = parser.parse_args()
    results: Path = options.results
    results.mkdir(parents=True, exist_ok=True)
    done = {name for name, result in read_results(results).items() if result.held and result.code == digest_code()}
    waiting = [campaign for campaign in CAMPAIGNS if campaign.name in set(options.only) - done]
    with ThreadPoolExecutor(options.at_once) as pool:
        running = {pool.submit(run_campaign, campaign, results): campaign.name for campaign in waiting}
        for ended in as_completed(running):
            text = json.dumps(asdict(ended.result()), indent=2) + "\n"
            (results / f"{running[ended]}.json").write_text(text, encoding="utf-8")
            write_document(options.document, CAMPAIGNS, read_results(results))
    failed = [name for name, result in read_results(results).items() if not result.held]
    if failed:
        raise SystemExit(f"did not hold: {', '.join(failed)}")


if __name__ == "__main__":
    main()
