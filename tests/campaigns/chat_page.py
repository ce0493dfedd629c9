"""The chat page in Chromium: what people do with it, what hostile texts cannot do, and whether everybody can use it.

    python -m tests.campaigns.chat_page [--browser /usr/bin/chromium] [--only WORDS] [--model DIR] [--screenshots DIR]

A server is started with two small random models, and 36 journeys are done in new windows. Then 500 hostile texts are in
every place that a conversation has, and in replies while they are written: nothing may be executed, requested elsewhere
or written to the console. axe (of the package axe-playwright-python) must find nothing serious. Needs
`pip install playwright axe-playwright-python` and a Chromium.
"""

from __future__ import annotations

import argparse
import itertools
import re
import sys
import tempfile
import time
from importlib.resources import files
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from tests.apps.conftest import write_model
from tests.campaigns.chat_conditions import CONDITIONS
from tests.campaigns.chat_hostile import check_hostile, check_hostile_runs
from tests.campaigns.chat_journeys import JOURNEYS
from tests.campaigns.chat_window import ChatWindow, chat_window, expect
from tests.campaigns.compare_page import SWITCHES
from tests.campaigns.server_process import ChatServer
from tunesmith.files import write_json

SERIOUS = ("serious", "critical")


def main() -> None:
    """Do everything and print one line for each part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--browser", default="/usr/bin/chromium", help="the program of Chromium")
    parser.add_argument("--only", default="", help="only the parts whose name matches this")
    parser.add_argument(
        "--model", help="a model for the screenshots and the time to the first token, such as the demo's"
    )
    parser.add_argument("--screenshots", type=Path, help="write pictures of the page into this directory")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=options.browser, args=SWITCHES)
        root = Path(directory)
        server = ChatServer([*write_models(root), "--data", str(root / "data")], root / "log")
        try:
            print(f"the server answers after {server.start():.1f} s")
            for journey in (*JOURNEYS, *CONDITIONS):
                if re.search(options.only, journey.__name__):
                    begin = time.monotonic()
                    journey(browser, server, root)
                    print(f"{journey.__name__.replace('_', ' ')}: {time.monotonic() - begin:.1f} s", flush=True)
            if re.search(options.only, "hostile"):
                places = check_hostile(browser, server, root) + check_hostile_runs(browser, root)
                print(f"hostile texts: {places} places, nothing executed", flush=True)
            if re.search(options.only, "axe"):
                print(f"axe: {check_access(browser, server)} views without a serious finding", flush=True)
            if options.model:
                measure_first_token(browser, options.model, root)
            if options.screenshots:
                take_screenshots(browser, options.model, options.screenshots, root)
        finally:
            server.end()
        browser.close()


def write_models(root: Path) -> list[str]:
    """Two random models whose replies have 60 tokens."""
    for name, format in (("plain", "plain"), ("chat", "chatml")):
        write_model(root / name, format, **({} if name == "plain" else {"eos": "<|im_end|>"}))
        sampling = {"temperature": 1.0, "max_new_tokens": 60, "min_new_tokens": 60}
        write_json(root / name / "tunesmith.json", {"format": format, "sampling": sampling})
    return [str(root / "plain"), str(root / "chat")]


def check_access(browser: Browser, server: ChatServer) -> int:
    """axe on the page in its states, light and dark, wide and narrow."""
    source = files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")
    views = 0
    for width, scheme in ((1280, "light"), (1280, "dark"), (400, "light")):
        with chat_window(browser, server, width, color_scheme=scheme) as window:
            window.open()
            window.page.evaluate(source)
            views += find_barriers(window, "empty")
            window.send("Is this page for everybody?")
            views += find_barriers(window, "thread")
            window.page.select_option("#drafts", "2")
            window.send("And drafts?")
            views += find_barriers(window, "drafts")
            window.page.click("#settings-toggle")
            views += find_barriers(window, "settings")
            window.page.click("#settings button >> text=Close")
            window.tool("Prompt").click()
            window.page.wait_for_selector("dialog[open] .token")
            views += find_barriers(window, "prompt")
            window.page.keyboard.press("Escape")
            if width < 500:
                window.page.click("#open-sidebar")
                views += find_barriers(window, "list")
    return views


def find_barriers(window: ChatWindow, view: str) -> int:
    """Raises SystemExit for a serious finding of axe; returns 1."""
    window.page.wait_for_timeout(150)
    serious = window.page.evaluate(
        """async (impacts) => {  // what is in order is not sent to this process, because it is very long
          const { violations } = await axe.run({ resultTypes: ["violations"] });
          const found = violations.filter((each) => impacts.includes(each.impact));
          return found.map((each) => `${each.id}: ${each.help}: ${each.nodes[0].html.slice(0, 150)}`);
        }""",
        SERIOUS,
    )
    expect(not serious, f"axe, {view}: {serious}")
    print(f"axe, {view}: nothing serious", flush=True)
    return 1


def measure_first_token(browser: Browser, model: str, root: Path) -> None:
    """Print the seconds from the start of the command to the first text of a reply on the page."""
    server = ChatServer([model, "--data", str(root / "first")], root / "first.log", fresh=True)
    begin = time.monotonic()
    answers = server.start()
    try:
        with chat_window(browser, server) as window:
            window.open()
            ready = time.monotonic() - begin
            window.send("Who lives in the house by the lake?", wait=False)
            sent = time.monotonic() - begin
            window.until("document.querySelector('.message.assistant .body').textContent")
            first = time.monotonic() - begin
            window.ended()
    finally:
        server.end()
    print(f"first text {first:.2f} s after the start: answers {answers:.2f}, page ready {ready:.2f}, sent {sent:.2f} s")


def take_screenshots(browser: Browser, model: str | None, directory: Path, root: Path) -> None:
    """Pictures of the page at both widths, light and dark."""
    directory.mkdir(parents=True, exist_ok=True)
    words = [model or str(root / "chat"), f"second={root / 'chat'}", "--data", str(root / "pictures")]
    server = ChatServer(words, root / "pictures.log")
    server.start()
    try:
        for width, scheme in itertools.product((1280, 400), ("light", "dark")):
            with chat_window(browser, server, width, color_scheme=scheme) as window:
                take_screenshots_of(window, directory, f"{width}-{scheme}")
    finally:
        server.end()


def take_screenshots_of(window: ChatWindow, directory: Path, name: str) -> None:
    """Pictures of the views of one window."""
    window.open()
    window.page.screenshot(path=directory / f"chat-empty-{name}.png")
    window.send("Who lives in the house by the lake?")
    window.page.select_option("#drafts", "2")
    window.page.select_option("#preset", "k50")
    window.send("What is a tree?")
    window.page.screenshot(path=directory / f"chat-drafts-{name}.png")
    window.page.click(".choose >> nth=0")
    window.until("!document.querySelector('.drafts')")
    window.tool("Prompt").click()
    window.page.wait_for_selector("dialog[open] .token")
    window.page.screenshot(path=directory / f"chat-prompt-{name}.png")
    window.page.keyboard.press("Escape")
    window.page.click("#settings-toggle")
    window.page.screenshot(path=directory / f"chat-settings-{name}.png")


if __name__ == "__main__":
    sys.exit(main())
