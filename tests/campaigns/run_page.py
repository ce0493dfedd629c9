"""Open the page of a run in Chromium while it trains, stop and resume the run, and look for what must not happen.

    python -m tests.campaigns.run_page [--browser /usr/bin/chromium] [--screenshots DIR] [--json FILE]

A small model trains in a process for this. The page has to follow it without being touched, keep its place, pause while
somebody looks at a part of a curve, and end with the run. Hostile texts are put into everything that a page shows.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Error

from tests.campaigns.compare_page import HOSTILE, Session, expect, run_in_browser, window
from tests.report.run_directories import write_hostile_run, write_long_run
from tests.worlds import write_world
from tunesmith.apps.run_page import run as write_page

STEPS = 2000  # an idle machine is not done with them while the page is looked at

LARGEST_PAGE = 2_000_000
SECONDS_TO_OPEN = 1.0
PATIENCE = 900.0  # seconds; on a busy machine a run takes minutes
TRAIN = "import sys; from tunesmith.cli.main import main; sys.argv[0] = 'tunesmith'; main()"


def start_training(root: Path, words: Sequence[str] = ()) -> subprocess.Popen[bytes]:
    """Train the small model in a process; the same call continues a run."""
    recipe = ["train", str(root / "recipe.yaml"), f"train.steps={STEPS}", "train.evaluate_every=50", "evaluate.show=3"]
    log = (root / "log.txt").open("ab")
    given = [*recipe, "train.save_every=200", "train.threads=1", *words]
    return subprocess.Popen([sys.executable, "-c", TRAIN, *given], stdout=log, stderr=log)


@contextmanager
def training(root: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that trains; it has ended when the block ends."""
    process = start_training(root)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(60)


def wait_until(holds: Callable[[], bool], what: str) -> None:
    """Wait for something that has to happen."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        expect(time.monotonic() < deadline, f"{what} did not happen within {PATIENCE:.0f} s")
        time.sleep(0.1)


def look(session: Session, expression: str) -> Any:
    """The value of an expression in the page, which may be loaded again at this moment."""
    for _ in range(20):
        try:
            return session.page.evaluate(expression)
        except Error:
            session.page.wait_for_timeout(100)
    return session.page.evaluate(expression)


def step_of(session: Session) -> int:
    """The step that the page shows; -1 while it is being loaded."""
    return int(look(session, "document.querySelector('progress')?.value ?? -1"))


def follow_training(browser: Browser, page: Path, screenshots: Path | None) -> dict[str, Any]:
    """The open page shows later steps, stays where it was scrolled to, and waits while a chart is enlarged."""
    with window(browser) as session:
        session.page.goto(f"file://{page}")
        began, first = time.monotonic(), step_of(session)
        session.page.click("#values summary")
        look(session, "window.scrollTo(0, 300)")
        wait_until(lambda: step_of(session) > first, "a newer page")
        seconds = time.monotonic() - began
        expect(session.text("#state") == "training", "the page of a run that trains says something else")
        expect(look(session, "document.getElementById('values').open"), "what was unfolded is folded again")
        expect(abs(look(session, "window.scrollY") - 300) < 2, "the page is scrolled elsewhere")
        look(session, "window.scrollTo(0, 0)")
        area = session.page.locator("#charts .u-over").first
        box = area.bounding_box()
        assert box is not None
        session.page.mouse.move(box["x"] + 60, box["y"] + 50)
        session.page.mouse.down()
        session.page.mouse.move(box["x"] + 140, box["y"] + 50, steps=5)
        session.page.mouse.up()
        expect(session.page.locator("#all-steps").is_visible(), "a chart is not enlarged")
        ranges = look(session, "charts.map(each => [each.scales.x.min, each.scales.x.max])")
        differences = [abs(one - other) for each in ranges for one, other in zip(each, ranges[0], strict=True)]
        expect(max(differences) < 1e-9, f"charts show other steps: {ranges}")
        held = step_of(session)
        session.page.wait_for_timeout(9000)
        expect(step_of(session) == held, "the page was loaded again while a chart was enlarged")
        session.page.keyboard.press("0")
        wait_until(lambda: step_of(session) > held, "a newer page after all steps were shown")
        session.page.locator("#charts [role=group]").first.focus()
        session.page.keyboard.press("ArrowLeft")
        shown = session.text("#charts .u-legend >> nth=0")
        expect(re.search(r"step\D{0,3}\d", shown) is not None, f"the arrow keys show no values: {shown!r}")
        take_screenshots(browser, page, screenshots, "training")
    return {"seconds_to_follow": seconds}


def take_screenshots(browser: Browser, page: Path, screenshots: Path | None, name: str) -> None:
    """Nothing is wider than the window, light and dark, wide and narrow."""
    for width in (1280, 400):
        for scheme in ("light", "dark"):
            with window(browser, width, color_scheme=scheme) as session:
                session.page.goto(f"file://{page}")
                session.page.wait_for_timeout(300)
                wide = session.page.evaluate("document.documentElement.scrollWidth")
                expect(wide <= width, f"{name} is {wide} pixels wide in a window of {width}")
                drawn = session.page.locator("#charts canvas").count()
                expect(drawn >= 5, f"{drawn} charts are drawn")
                if screenshots:
                    session.page.screenshot(path=screenshots / f"run-{name}-{width}-{scheme}.png", full_page=True)


def check_stop_and_resume(browser: Browser, root: Path, screenshots: Path | None) -> dict[str, Any]:
    """A run that is stopped and continued: the page says both, and in the end has the whole history."""
    page = root / "run" / "index.html"
    with training(root) as process:
        wait_until(page.exists, "the first page")
        found = follow_training(browser, page, screenshots)
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    with window(browser) as session:
        session.page.goto(f"file://{page}")
        expect(session.text("#state") == "stopped", "the page of a stopped run says something else")
        expect("continues the run" in session.text("header"), "the page does not say how the run continues")
        stopped = step_of(session)
    process = start_training(root)
    expect(process.wait(PATIENCE) == 0, (root / "log.txt").read_text()[-2000:])
    with window(browser) as session:
        session.page.goto(f"file://{page}")
        session.page.wait_for_selector("#charts canvas")
        expect(session.text("#state") == "finished", "the page of a finished run says something else")
        steps = session.page.evaluate("data.steps")
        expect(steps[0] <= 2 and steps[-1] == STEPS and step_of(session) == STEPS, f"the page has steps {steps[:3]}")
        evaluated = session.page.evaluate("data.evaluated")
        expect(evaluated == list(range(0, STEPS + 1, 50)), f"the page has the evaluations {evaluated}")
        session.page.wait_for_timeout(5000)
        expect(session.page.evaluate("performance.now()") > 4500, "a finished page is loaded again")
    take_screenshots(browser, page, screenshots, "finished")
    return {**found, "stopped_at": stopped, "bytes": page.stat().st_size}


def check_hostile(browser: Browser, root: Path) -> int:
    """Hostile texts as names, recipe values, metrics, sources, prompts, replies, checks and manifest."""
    page = write_page(write_hostile_run(root, HOSTILE))
    with window(browser) as session:
        session.page.goto(f"file://{page}")
        session.page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
        session.page.wait_for_timeout(800)
        expect(session.page.evaluate("window.executed") is None, "a text was executed")
        expect(session.page.evaluate("document.scripts.length") == 3, "the page has other scripts")
        wanted = "img, iframe, svg, object, embed, link, base, a, input, [onclick], [onerror], [style*=expression]"
        expect(session.page.locator(wanted).count() == 0, "a text became an element")
        hidden = (
            "[...document.body.innerText].filter(each => /[\\u0000-\\u0008\\u001b\\u202e\\u2066]/.test(each)).length"
        )
        expect(session.page.evaluate(hidden) == 0, "an invisible character is on the page")
        session.press(["t", "f", "0"])
    return len(HOSTILE)


def check_long(browser: Browser, root: Path) -> dict[str, Any]:
    """A run of many steps, evaluations and sources has a small page that opens at once."""
    page = write_page(write_long_run(root / "long"))
    size = page.stat().st_size
    expect(size < LARGEST_PAGE, f"the page has {size:,} bytes")
    with window(browser) as session:
        session.page.goto(f"file://{page}")
        session.page.wait_for_selector("#charts canvas")
        seconds = session.page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd") / 1000
        expect(seconds < SECONDS_TO_OPEN, f"the page opens in {seconds:.2f} s")
    return {"bytes_of_long_run": size, "seconds_to_open": seconds}


def check_without_script(browser: Browser, page: Path) -> None:
    """Without script everything but the curves is readable, and their numbers are a table."""
    with window(browser, java_script_enabled=False) as session:
        session.page.goto(f"file://{page}")
        expect(session.page.locator("table.replies tr").count() > 3, "there are no replies")
        expect(session.page.locator("#values tbody tr").count() > 3, "there are no numbers")
        expect(session.page.locator("#buttons").is_hidden(), "buttons that need the script are shown")


def campaign(browser: Browser, root: Path, screenshots: Path | None) -> dict[str, Any]:
    """All checks; the first that fails ends the campaign."""
    write_world(root / "world")
    found = check_stop_and_resume(browser, root / "world", screenshots)
    check_without_script(browser, root / "world" / "run" / "index.html")
    return {**found, "hostile_texts": check_hostile(browser, root / "hostile"), **check_long(browser, root)}


def main() -> None:
    run_in_browser(__doc__, campaign)


if __name__ == "__main__":
    main()
