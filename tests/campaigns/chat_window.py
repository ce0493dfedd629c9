"""A window of a real browser with the chat page, and short ways to use it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Locator, Page

from tests.campaigns.server_process import ChatServer, CutConnections

HARMLESS = ("net::ERR_", "Failed to load resource")
"""Beginnings of what a browser writes to the console when the server does not answer, or refuses."""


class ChatWindow:
    """A window with the chat page, short ways to use it, and a record of what a page must not do."""

    def __init__(self, page: Page, server: ChatServer | CutConnections) -> None:
        self.page, self.server = page, server
        self.faults: list[str] = []
        self.requests: list[str] = []
        page.on("console", lambda message: self._console(message.text))
        page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        page.on("dialog", lambda dialog: self.faults.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: self._request(request.url))

    def _console(self, text: str) -> None:
        if not text.startswith(HARMLESS):
            self.faults.append(f"console: {text}")

    def _request(self, url: str) -> None:
        if not url.startswith((self.server.address, "blob:")):
            self.faults.append(f"request: {url}")

    def open(self, fragment: str = "") -> None:
        """Open the page and wait until it can be used."""
        self.page.goto(f"{self.server.address}/{fragment}")
        self.ready()

    def ready(self) -> None:
        self.page.wait_for_selector("body[data-ready]:not([data-loading])")

    def send(self, text: str, wait: bool = True) -> None:
        """Send a message by Enter. wait: until its reply has ended."""
        before = self.page.locator(".message.user").count()
        self.page.fill("#text", text)
        self.page.press("#text", "Enter")
        self.page.wait_for_function(
            """before => {
              const all = [...document.querySelectorAll(".message")];
              const sent = all.filter((each) => each.matches(".user:not(.unsent)")).length;
              return sent > before && all.at(-1).matches(".assistant");
            }""",
            arg=before,
        )
        if wait:
            self.ended()

    def ended(self) -> None:
        """Wait until no reply is being written."""
        self.page.wait_for_function("() => !document.querySelector('.message.writing, .message.unsent')")
        self.page.wait_for_selector("#send", state="visible")

    def reply(self, number: int = -1) -> Locator:
        return self.page.locator(".message.assistant").nth(number)

    def body(self, number: int = -1) -> str:
        return self.reply(number).locator(".body").inner_text()

    def tool(self, name: str, number: int = -1) -> Locator:
        """A button of a reply by its text."""
        return self.reply(number).locator(".tools button", has_text=name)

    def limit(self, tokens: int) -> None:
        """Let replies have so many tokens."""
        self.page.evaluate(
            "tokens => { const kept = JSON.parse(localStorage['tunesmith.chat'] ?? '{}');"
            "kept.sampling = {...kept.sampling, max_new_tokens: tokens};"
            "localStorage['tunesmith.chat'] = JSON.stringify(kept) }",
            tokens,
        )
        self.page.reload()
        self.ready()

    def writing(self, characters: int = 30) -> None:
        """Wait until a reply is being written and has some text."""
        self.page.wait_for_function(
            "least => (document.querySelector('.message.writing .body')?.textContent.length ?? 0) >= least",
            arg=characters,
        )

    def until(self, script: str, **options: Any) -> None:
        """Wait until an expression is true in the page."""
        self.page.wait_for_function(f"() => {script}", **options)


def expect(holds: object, what: str) -> None:
    if not holds:
        raise SystemExit(f"browser: {what}")


@contextmanager
def chat_window(
    browser: Browser, server: ChatServer | CutConnections, width: int = 1280, **settings: Any
) -> Iterator[ChatWindow]:
    """A window with separate storage; what its page must not do ends the campaign."""
    context = browser.new_context(viewport={"width": width, "height": 860}, accept_downloads=True, **settings)
    context.set_default_timeout(180_000)
    found = ChatWindow(context.new_page(), server)
    try:
        yield found
    finally:
        context.close()
    expect(found.faults == [], f"faults of the page: {found.faults[:5]}")


Journey = Callable[[Browser, ChatServer, Path], None]
