"""The page of `tunesmith compare` in Chromium: it opens from disk, is used as a person would, and nothing is executed.

    python -m tests.campaigns.compare_page [--browser /usr/bin/chromium] [--screenshots DIR] [--json FILE]

The page of the published reports (in the directory that TUNESMITH_REAL_DATA names; without it, of generated reports of
the same size) is opened from ``file://``. A session votes ten prompts blind by key, saves the votes, loads the page
again, loads the votes into a browser that has none, reveals the result and turns the votes into pairs. A page of 60
hostile texts in every place that a report can fill must execute nothing, request nothing and write nothing to the
console. Needs `pip install playwright` and a Chromium.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from tests.apps.reports import write_report
from tests.text.hostile import SEQUENCES
from tunesmith.apps.compare import run
from tunesmith.apps.preferences import PairSelection
from tunesmith.apps.votes import build_vote_preferences
from tunesmith.report.intervals import Rate

PUBLISHED = (
    "sft-4.2023-04-03_andreaskoepf_oasst-sft-4-pythia-12b-epoch-3_5_sampling_noprefix_lottery.json",
    "gpt35.2023-04-11_gpt-3.5-turbo_lottery.json",
)
SWITCHES = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]
VOTES = "1234114214"  # keys: left, tie, both bad, right
SECONDS_TO_OPEN, SECONDS_TO_FILTER, LARGEST_PAGE = 1.0, 0.1, 6_000_000
MARKUP = (
    "<script>window.executed=1</script>",
    "</script><script>window.executed=1</script>",
    "<!--<script>window.executed=1",
    "<img src=x onerror=window.executed=1>",
    "<svg onload=window.executed=1></svg>",
    "<iframe srcdoc='<script>parent.executed=1</script>'></iframe>",
    "[x](javascript:window.executed=1)",
    "![x](https://example.org/x.png)",
    "<style>@import url(https://example.org/x.css)</style>",
    "<base href=https://example.org/><a href=x>x</a>",
    "<meta http-equiv=refresh content='0;url=https://example.org/'>",
    "</noscript></div></main><details open ontoggle=window.executed=1>",
    "`<img src=x onerror=window.executed=1>` **<b onclick=window.executed=1>b</b>**",
    "```html\n<script>window.executed=1</script>\n```",
    "\"'><input autofocus onfocus=window.executed=1>",
    "{{ 7 * 7 }}{% for x in [1] %}{{ x }}{% endfor %}${window.executed=1}",
    "__proto__",
    "constructor",
)
READABLE = [text for text in SEQUENCES if not any(mark == "\0" or "\ud800" <= mark <= "\udfff" for mark in text)]
"""A report with other sequences is refused when it is read."""
HOSTILE = (*MARKUP, *READABLE[: 60 - len(MARKUP)])


class Session:
    """A window that records what a page must not do."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.faults: list[str] = []
        page.on("console", lambda message: self.faults.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        page.on("dialog", lambda dialog: self.faults.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: self._note(request.url))

    def _note(self, url: str) -> None:
        if not url.startswith(("file://", "blob:")):
            self.faults.append(f"request: {url}")

    def open(self, path: Path, fragment: str = "") -> float:
        """Open the page; returns the seconds until the replies are there, as the browser measures them."""
        self.page.goto(f"file://{path}{fragment}")
        self.page.wait_for_selector("#list article .reply")
        return float(self.page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")) / 1000

    def press(self, keys: Sequence[str]) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def text(self, selector: str) -> str:
        return self.page.inner_text(selector)


@contextmanager
def window(browser: Browser, width: int = 1280, **settings: Any) -> Iterator[Session]:
    """A window with a storage of its own; what its page must not do ends the campaign."""
    context = browser.new_context(viewport={"width": width, "height": 900}, accept_downloads=True, **settings)
    session = Session(context.new_page())
    yield session
    context.close()
    expect(session.faults == [], f"faults of the page: {session.faults[:5]}")


def expect(holds: bool, what: str) -> None:
    if not holds:
        raise SystemExit(f"browser: {what}")


def find_reports(root: Path) -> list[Path]:
    """The published reports and one of ours, or three generated reports of that size."""
    draw = random.Random(1)
    words = [f"word{number}" for number in range(3000)]

    def replies(count: int, length: int) -> list[str]:
        return [" ".join(draw.choices(words, k=length)) + "<|endoftext|>" for _ in range(count)]

    questions = [f"Question {number}?" for number in range(250)]
    data = os.environ.get("TUNESMITH_REAL_DATA")
    if data and (Path(data) / "reports").is_dir():
        published = [Path(data) / "reports" / name for name in PUBLISHED]
        questions = [prompt["prompt"] for prompt in json.loads(published[1].read_text())["prompts"]]
    else:
        names = ("nucleus9", "k50", "typical2", "typical3", "contrastive")
        large = [(each, {name: replies(2, 120) for name in names} | {"greedy": replies(1, 120)}) for each in questions]
        small = [(each, {"nucleus9": replies(1, 70)}) for each in questions]
        published = [write_report(root / "a.json", "o/large", large), write_report(root / "b.json", "o/small", small)]
    ours = write_report(root / "ours.json", "runs/ours", [(each, {"nucleus9": replies(1, 40)}) for each in questions])
    return [*published, ours]


def check_opening(browser: Browser, page: Path) -> dict[str, float]:
    """Opening, filtering, jumping and moving by key, in a window of ordinary size."""
    with window(browser) as session:
        seconds = min(session.open(page) for _ in range(3))
        expect(seconds < SECONDS_TO_OPEN, f"the page opens in {seconds:.2f} s")
        filtering = 0.0
        for query in ("happiness", "the", "/wo?rd/", ""):
            code = "query => { const start = performance.now(); view.query = query; showList();"
            filtering = max(
                filtering, float(session.page.evaluate(f"{code} return performance.now() - start }}", query))
            )
        expect(filtering / 1000 < SECONDS_TO_FILTER, f"a filter takes {filtering:.0f} ms")
        session.press(["j", "j", "k", "d"])
        expect(session.page.locator(".current mark").count() > 0, "no word is marked")
        session.press(["?"])
        session.page.click("#help button")
        expect(session.page.locator("#help").is_hidden(), "the list of keys cannot be closed")
        session.open(page, "#prompt-200")
        expect(
            "current" in str(session.page.get_attribute("#prompt-200", "class")), "a link does not lead to its prompt"
        )
        expect(bool(session.page.locator("#prompt-200 .reply").count()), "the prompt of a link has no replies")
        session.page.fill("#search", "no such words anywhere")
        session.page.wait_for_selector("#list article", state="detached")
        session.page.fill("#jump", "17")
        session.press(["Enter"])
        expect(session.page.locator("#prompt-17.current").count() == 1, "a jump does not lead to its prompt")
        for name in session.page.locator("#sort option").evaluate_all("options => options.map(each => each.value)"):
            session.page.select_option("#sort", name)
            expect(session.page.locator("#list article").count() == 250, f"prompts are lost when sorted by {name}")
    return {"seconds_to_open": seconds, "seconds_to_filter": filtering / 1000}


def vote_blind(browser: Browser, page: Path, votes: Path) -> None:
    """Ten votes by key, with no name next to a reply; they are saved, and kept when the page is loaded again."""
    with window(browser) as session:
        session.open(page)
        names = session.page.evaluate("data.models.map(model => model.label)")
        session.press(["b"])
        for key in VOTES:
            shown = session.text("#ballot")
            expect(not any(name in shown for name in names), "a name is shown next to a reply")
            session.press([key])
        expect(session.text("#count") == "10 of 250", f"progress is {session.text('#count')}")
        session.press(["z", VOTES[-1]])
        with session.page.expect_download() as download:
            session.page.click("#save")
        download.value.save_as(votes)
        session.open(page)
        session.press(["b"])
        expect(session.text("#count") == "10 of 250", "votes are lost when the page is loaded again")


def reveal(browser: Browser, page: Path, votes: Path) -> str:
    """The votes in a browser that has none: loaded from the file, and their result."""
    with window(browser) as session:
        session.open(page)
        session.press(["b"])
        expect(session.text("#count") == "0 of 250", "another browser has votes")
        session.page.set_input_files("#load", votes)
        session.page.wait_for_selector("#count:text-is('10 of 250')")
        session.press(["r"])
        return session.text("#result")


def check_votes(browser: Browser, page: Path, reports: Sequence[Path], root: Path) -> dict[str, int]:
    """The result on the page is that of the saved votes, and the decided ones become pairs."""
    votes = root / "votes.json"
    vote_blind(browser, page, votes)
    result = reveal(browser, page, votes)
    saved = json.loads(votes.read_text())["votes"]
    decided = [vote for vote in saved if vote["verdict"] in ("left", "right")]
    preferred = [vote[vote["verdict"]]["report"] for vote in decided]
    wins = max(preferred.count(report) for report in set(preferred))
    found = re.search(r"wins (\d+) % of the decided votes \(95 % interval: (\d+) % to (\d+) %\)", result)
    expect(found is not None and "No difference shown" in result, f"the result is {result!r}")
    numbers = [int(number) for number in found.groups()] if found else []
    rates = [Rate(count, len(decided)) for count in (wins, len(decided) - wins)]
    expected = [[round(100 * share) for share in (rate.share, *rate.interval())] for rate in rates]
    expect(numbers in expected, f"the result is {numbers} instead of {expected}")
    built = build_vote_preferences([votes], reports, root / "pairs.jsonl", PairSelection())
    expect((len(saved), built.written) == (10, len(decided)), f"{built.written} pairs of {len(decided)} decided votes")
    return {"votes": len(saved), "pairs": built.written}


def check_hostile(browser: Browser, root: Path) -> int:
    """Every hostile text as prompt, reply, name of a model, of a configuration and of a file."""
    replies = [(f"{number} {text}", {text: [text], "k": [text, f"x {text}"]}) for number, text in enumerate(HOSTILE)]
    names = ("<img src=x onerror=window.executed=1>", "</script><script>window.executed=1</script>")
    files = [root / "<b onclick=window.executed=1>.json", root / "b.json"]
    reports = [write_report(file, name, replies) for file, name in zip(files, names, strict=True)]
    page = root / "hostile.html"
    run([str(path) for path in reports], output=page, target=sys.stderr)
    with window(browser) as session:
        session.open(page)
        session.page.select_option("#configuration", "")
        session.page.evaluate("for (const prompt of data.prompts) renderCard(prompt)")
        session.page.evaluate("document.getElementById('numbers').open = true")
        for _ in range(2):
            session.press(["m"])
            session.press(["j", "d"] * len(HOSTILE))
            session.press(["b", *"1234" * 15, "r", "Escape"])
        session.page.fill("#search", "<script")
        session.page.wait_for_timeout(500)
        expect(session.page.evaluate("window.executed") is None, "a text was executed")
        expect(session.page.evaluate("document.scripts.length") == 2, "the page has other scripts")
        wanted = "img, iframe, svg, object, embed, link, base, [onclick], [onerror], main a:not([href^='#prompt-'])"
        expect(session.page.locator(wanted).count() == 0, "a text became an element")
    return len(HOSTILE)


def check_layout(browser: Browser, page: Path, screenshots: Path | None) -> None:
    """Nothing is wider than the window, in the list, with differences, numbers, votes and their result."""
    for width in (1280, 400):
        for scheme in ("light", "dark"):
            with window(browser, width, color_scheme=scheme) as session:
                session.open(page)
                steps = {
                    "list": [],
                    "differences": ["j", "j", "d"],
                    "keys": ["?"],
                    "votes": ["Escape", "b", *VOTES],
                    "result": ["r"],
                }
                for name, keys in steps.items():
                    session.press(keys)
                    session.page.wait_for_timeout(150)
                    wide = session.page.evaluate("document.documentElement.scrollWidth")
                    expect(wide <= width, f"{name} is {wide} pixels wide in a window of {width}")
                    if screenshots:
                        session.page.screenshot(path=screenshots / f"{name}-{width}-{scheme}.png")


def check_without_script(browser: Browser, page: Path) -> None:
    """Without script the page is a list of all prompts."""
    with window(browser, java_script_enabled=False) as session:
        session.page.goto(f"file://{page}")
        expect(session.page.locator("noscript article, article").count() >= 250, "the list is not there")
        expect(session.page.locator("#app").is_hidden(), "controls that need the script are shown")


def campaign(browser: Browser, root: Path, screenshots: Path | None) -> dict[str, Any]:
    """All checks; the first that fails ends the campaign."""
    reports = find_reports(root)
    page = root / "page.html"
    began = time.monotonic()
    run([str(path) for path in reports], output=page, target=sys.stderr)
    found: dict[str, Any] = {"bytes": page.stat().st_size, "seconds_to_write": time.monotonic() - began}
    expect(found["bytes"] < LARGEST_PAGE, f"the page has {found['bytes']:,} bytes")
    found |= check_opening(browser, page)
    found |= check_votes(browser, page, reports, root)
    found["hostile_texts"] = check_hostile(browser, root)
    check_layout(browser, page, screenshots)
    check_without_script(browser, page)
    return found


def run_in_browser(description: str | None, campaign: Callable[[Browser, Path, Path | None], dict[str, Any]]) -> None:
    """The command line of a campaign in Chromium.

    description: of the command.
    campaign: (browser, an empty directory, the directory of screenshots or None) -> its figures.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--browser", default="/usr/bin/chromium", help="the program of Chromium")
    parser.add_argument("--screenshots", type=Path, help="write screenshots to this directory")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    given = parser.parse_args()
    if given.screenshots:
        given.screenshots.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=given.browser, args=SWITCHES)
        found = campaign(browser, Path(directory).resolve(), given.screenshots)
        browser.close()
    print(json.dumps(found, indent=2))
    if given.json:
        given.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    run_in_browser(__doc__, campaign)
