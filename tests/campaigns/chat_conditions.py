"""Journeys through the chat page in other conditions: reloads, tabs, kills, telephones, long texts, keys and files."""

from __future__ import annotations

import json
import re
import signal
from contextlib import closing
from pathlib import Path

from playwright.sync_api import Browser

from tests.campaigns.chat_window import ChatWindow, Journey, chat_window, expect
from tests.campaigns.server_process import ChatServer, CutConnections

LONG = 1500  # tokens: some seconds
MARKDOWN = (
    "# Title\n\nSome **bold**, *italic*, `code` and a [link](https://example.org/x).\n\n- one\n  1. two\n\n"
    "| a | b |\n|---|--:|\n| 1 | 2 |\n\n```python\nprint('<b>')\n```\n\n$$\nx^2\n$$\n\n> quoted\n\n![alt](https://example.org/i.png)"
)


def reload_during_a_stream(browser: Browser, server: ChatServer, root: Path) -> None:
    with chat_window(browser, server) as window:
        window.open()
        window.limit(LONG)
        window.send("Reload me", wait=False)
        window.writing(100)
        before = window.reply().locator(".body").text_content() or ""
        window.page.reload()
        window.ready()
        window.writing(len(before))
        window.ended()
        text = window.reply().locator(".speed").inner_text()
        expect(text.startswith(f"{LONG} tokens"), f"the reply ended early: {text}")


def two_tabs(browser: Browser, server: ChatServer, root: Path) -> None:
    with chat_window(browser, server) as window, chat_window(browser, server) as other:
        window.open()
        window.limit(LONG)
        window.send("Watch me twice", wait=False)
        window.writing()
        other.open(window.page.url.partition("/#")[2] and f"#{window.page.url.partition('#')[2]}")
        other.writing()
        window.ended()
        other.ended()
        expect(window.body() == other.body(), "two tabs show different texts")
        other.tool("Good").click()
        window.page.wait_for_selector(".tools button[aria-pressed=true] >> text=Good")


def killed_and_restarted(browser: Browser, server: ChatServer, root: Path) -> None:
    with chat_window(browser, server) as window:
        window.open()
        window.limit(LONG)
        window.send("Survive", wait=False)
        window.writing(200)
        window.page.wait_for_timeout(1500)  # until a part is on the disk
        server.end(signal.SIGKILL)
        window.page.wait_for_selector("#banner >> text=The server does not answer")
        server.start()
        window.until("document.querySelector('#banner').hidden")
        window.page.wait_for_selector(".notes >> text=The server ended while this reply was written")
        expect(len(window.body()) > 20, "what was written is lost")


def network_lost_during_a_stream(browser: Browser, server: ChatServer, root: Path) -> None:
    network = CutConnections(server)
    with closing(network), chat_window(browser, network) as window:
        window.open()
        window.limit(LONG)
        asked = list[str]()
        window.page.on("request", lambda request: asked.append(request.url))
        window.send("Go on without me", wait=False)
        window.writing(100)
        network.cut()
        window.page.wait_for_selector("#banner >> text=The server does not answer")
        network.mend()
        window.until("document.querySelector('#banner').hidden")
        window.ended()
        shown = window.reply().locator(".speed").inner_text()
        expect(shown.startswith(f"{LONG} tokens"), f"a part of the reply is missing: {shown}")
        streams = [url for url in asked if "/events" in url]
        expect("%3A" in streams[-1], f"the stream is not continued within a reply: {streams}")
        text = window.body()
        window.page.reload()
        window.ready()
        expect(window.body() == text, "the continued reply is not what is stored")


def stream_lost_alone(browser: Browser, server: ChatServer, root: Path) -> None:
    with chat_window(browser, server) as window:
        window.open()
        window.limit(20)
        window.send("Before")
        fragment = window.page.url.partition("#")[2]
        window.open()
        window.page.route("**/events*", lambda route: route.abort())
        window.page.goto(f"{server.address}/#{fragment}")  # the conversation does not arrive
        window.page.wait_for_selector("#banner >> text=The connection to this conversation is lost")
        window.page.unroute_all()
        window.page.click("#banner button")
        window.until("document.querySelector('#banner').hidden")
        window.page.wait_for_selector(".message.assistant")


def sent_while_offline(browser: Browser, server: ChatServer, root: Path) -> None:
    with chat_window(browser, server) as window:
        window.open()
        window.limit(20)
        window.send("Before")
        server.end()
        window.page.fill("#text", "While it was away")
        window.page.press("#text", "Enter")
        window.page.wait_for_selector(".message.unsent >> text=While it was away")
        window.page.wait_for_selector("#banner >> text=The server does not answer")
        server.start()
        window.until("document.querySelectorAll('.message.assistant').length === 2")
        window.ended()
        expect(window.page.locator(".message.user").count() == 2, "a message was sent twice or lost")


def long_conversation(browser: Browser, server: ChatServer, root: Path) -> None:
    messages = [
        {"role": ("user", "assistant")[number % 2], "content": f"message {number} " + "word " * 60}
        for number in range(400)
    ]
    file = root / "long.jsonl"
    file.write_text(json.dumps({"messages": messages}) + "\n")
    with chat_window(browser, server) as window:
        window.open()
        window.page.set_input_files("#import-file", file)
        window.page.wait_for_selector("dialog >> text=1 conversation was imported")
        window.page.keyboard.press("Escape")
        window.page.click("#conversations >> text=message 0")
        window.page.wait_for_selector(".message >> nth=399")
        window.until("document.querySelector('#scroll').scrollTop > 1000")
        window.limit(8)
        window.send("And now?")
        expect("did not fit into the context" in window.reply().inner_text(), "dropped messages are not mentioned")


def many_conversations(browser: Browser, server: ChatServer, root: Path) -> None:
    titles = [f"number {number:03d}" for number in range(501)]
    lines = [json.dumps({"messages": [{"role": "user", "content": title}]}) for title in titles]
    file = root / "many.jsonl"
    file.write_text("\n".join(lines) + "\n")
    with chat_window(browser, server) as window:
        window.open()
        window.page.set_input_files("#import-file", file)
        window.page.wait_for_selector("dialog >> text=501 conversations were imported")
        window.page.keyboard.press("Escape")
        window.page.wait_for_selector("#list-note >> text=These are the 500 that changed last")
        window.page.fill("#search", "number 000")
        window.page.wait_for_selector("#conversations .name >> text=number 000")
        expect(not window.page.locator("#list-note").is_visible(), "the note stays")


def context_full(browser: Browser, server: ChatServer, root: Path) -> None:
    with chat_window(browser, server) as window:
        window.open()
        window.send("too long " * 5000)
        text = window.page.inner_text(".message.failed")
        expect("leaves no tokens for a reply" in text and "shorten it" in text, f"the error is: {text[-200:]}")


def telephone(browser: Browser, server: ChatServer, root: Path) -> None:
    with chat_window(browser, server, 400, has_touch=True) as window:
        window.open()
        window.send("From a telephone " + "long" * 60)
        find_overflow(window, "thread")
        window.page.select_option("#drafts", "3")
        window.page.select_option("#second", "chat")
        window.send("And drafts " + "long" * 60)
        find_overflow(window, "drafts")
        window.page.click(".choose >> nth=0")
        window.until("!document.querySelector('.drafts')")
        find_overflow(window, "versions")
        window.page.click("#open-sidebar")
        window.page.wait_for_selector("#sidebar >> text=From a telephone")
        window.page.click("#new")
        window.page.wait_for_selector("#empty h2")
        window.page.click("#settings-toggle")
        expect(
            (window.page.locator("#settings").bounding_box() or {})["width"] > 390, "settings do not fill the screen"
        )


def find_overflow(window: ChatWindow, view: str) -> None:
    """Raises SystemExit if something is outside of a narrow page, or can only be seen by scrolling to the side."""
    found = window.page.evaluate(
        """() => {
          const wide = [...document.querySelectorAll("#main *")].filter((each) => {
            const { right, width } = each.getBoundingClientRect();
            const scrolls = each.scrollWidth > each.clientWidth + 1 && getComputedStyle(each).overflowX === "auto";
            return width > 0 && (right > innerWidth + 1 || (scrolls && !each.matches(".wide, .code-block pre")));
          });
          if (document.documentElement.scrollWidth > innerWidth) wide.push(document.documentElement);
          return wide.map((each) => `${each.tagName}#${each.id}.${each.className}`);
        }"""
    )
    expect(not found, f"{view}: outside of a narrow page are {found[:5]}")


def keyboard_only(browser: Browser, server: ChatServer, root: Path) -> None:
    with chat_window(browser, server) as window:
        window.open()
        window.page.keyboard.type("No mouse")
        window.page.keyboard.press("Enter")
        window.page.wait_for_selector(".message.assistant")
        window.ended()
        window.page.keyboard.press("Alt+ArrowUp")
        expect(window.page.evaluate("document.activeElement.className").startswith("message assistant"), "no focus")
        window.page.keyboard.press("g")
        window.page.wait_for_selector(".tools button[aria-pressed=true] >> text=Good")
        window.page.keyboard.press("p")
        window.page.wait_for_selector("dialog[open] .token")
        window.page.keyboard.press("Escape")
        window.page.keyboard.press("Alt+k")
        expect(window.page.evaluate("document.activeElement.id") == "search", "Alt+K does not lead to the search")
        window.page.keyboard.press("ArrowDown")
        window.page.keyboard.press("Alt+s")
        expect(window.page.evaluate("document.activeElement.id") == "system", "Alt+S does not open the settings")
        window.page.keyboard.press("Escape")
        window.page.keyboard.press("Alt+n")
        expect(window.page.evaluate("document.activeElement.id") == "text", "Alt+N does not lead to the message")


def system_and_prompt(browser: Browser, server: ChatServer, root: Path) -> None:
    with chat_window(browser, server) as window:
        window.open()
        window.page.select_option("#model", "chat")
        window.page.click("#settings-toggle")
        window.page.fill("#system", "You are a heron.")
        window.page.keyboard.press("Escape")
        window.send("Who are you?")
        window.tool("Prompt").click()
        window.page.wait_for_selector("dialog .turn.system")
        text = window.page.inner_text("dialog .prompt-tokens").replace("·", " ")
        expect("heron" in text, "the system message is not in the prompt")
        expect(window.page.locator("dialog .token.control").count() >= 3, "control tokens are not marked")


def switch_for_training(browser: Browser, server: ChatServer, root: Path) -> None:
    with chat_window(browser, server) as window:
        window.open()
        window.send("May this be used?")
        expect(not window.page.locator("#feedback").is_checked(), "the switch is on")
        window.page.locator("#feedback").check()
        window.page.wait_for_selector("#conversations li.current .mark >> text=for training")
        window.page.reload()
        window.ready()
        window.until("document.querySelector('#feedback').checked")


def export_and_import(browser: Browser, server: ChatServer, root: Path) -> None:
    with chat_window(browser, server) as window:
        window.open()
        window.send("Take me with you")
        for text, ending in (("JSON lines", "jsonl"), ("OpenAssistant", "trees.jsonl"), ("Markdown", "md")):
            with window.page.expect_download() as download:
                window.page.click("#export")
                window.page.click(f"dialog button >> text={text}")
            path = root / f"export.{ending}"
            download.value.save_as(path)
            expect("Take me with you" in path.read_text(), f"the export as {text} lacks a message")
            window.page.set_input_files("#import-file", path)
            known = "0 conversations were imported. 1 were here" if ending == "jsonl" else "1 conversation was imported"
            window.page.wait_for_selector(f"dialog >> text={known}")
            window.page.keyboard.press("Escape")
        bad = root / "bad.jsonl"
        bad.write_text('{"messages": [{"role": "robot", "content": "x"}]}\n')
        window.page.set_input_files("#import-file", bad)
        window.page.wait_for_selector("dialog .problem >> text=robot")


def markdown_and_copy(browser: Browser, server: ChatServer, root: Path) -> None:
    file = root / "markdown.jsonl"
    messages = [{"role": "user", "content": "Formats"}, {"role": "assistant", "content": MARKDOWN}]
    file.write_text(json.dumps({"messages": messages}) + "\n")
    with chat_window(browser, server, permissions=["clipboard-read", "clipboard-write"]) as window:
        window.open()
        window.page.set_input_files("#import-file", file)
        window.page.wait_for_selector("dialog >> text=1 conversation was imported")
        window.page.keyboard.press("Escape")
        window.page.click("#conversations >> text=Formats")
        body = ".message.assistant .body"
        for part in ("strong", "em", "ul ol li", "table td.side-right", "pre.formula", "blockquote", "[role=heading]"):
            window.page.wait_for_selector(f"{body} {part}")
        link = window.page.locator(f"{body} a").first
        expect("nofollow" in (link.get_attribute("rel") or ""), "a link has no rel")
        expect("(example.org)" in window.page.inner_text(body), "the host of a link is not shown")
        expect(window.page.locator(f"{body} img").count() == 0, "there is an image")
        window.page.click(".code-head button")
        expect(window.page.evaluate("navigator.clipboard.readText()") == "print('<b>')", "the code is not copied")


def themes(browser: Browser, server: ChatServer, root: Path) -> None:
    with chat_window(browser, server, color_scheme="dark") as window:
        window.open()
        colours = []
        for _ in range(2):
            colours.append(window.page.evaluate("getComputedStyle(document.body).backgroundColor"))
            window.page.click("#theme")
        window.page.click("#theme")
        expect(re.match(r"rgb\(1?\d, ", colours[0]), f"a dark system has the colour {colours[0]}")
        window.page.emulate_media(color_scheme="light")
        expect(window.page.evaluate("getComputedStyle(document.body).backgroundColor") != colours[0], "no light theme")


def deleted_elsewhere(browser: Browser, server: ChatServer, root: Path) -> None:
    with chat_window(browser, server) as window, chat_window(browser, server) as other:
        window.open()
        window.send("Soon gone")
        other.open()
        other.page.hover("#conversations li:has-text('Soon gone')")
        other.page.click("#conversations li:has-text('Soon gone') [aria-label^='Delete']")
        other.page.click("dialog .danger")
        window.page.wait_for_selector("#empty h2")
        other.open("#c/0000")
        other.page.wait_for_selector("#banner >> text=does not exist")


def passage(browser: Browser, server: ChatServer, root: Path) -> None:
    with chat_window(browser, server) as window:
        window.open()
        if not window.page.locator("#passage-toggle").is_visible():
            raise SystemExit("browser: the format plain has a place for a passage")
        window.page.click("#passage-toggle")
        window.page.fill("#passage", "Herons eat fish.")
        window.send("What do they eat?")
        expect("Herons eat fish." in window.page.inner_text(".message.user .passage"), "the passage is not shown")
        window.tool("Prompt").click()
        window.page.wait_for_selector("dialog .token")
        text = window.page.inner_text("dialog .prompt-tokens").replace("·", " ")
        expect("fish" in text.replace("\n", ""), "the passage is not in the prompt")


CONDITIONS: tuple[Journey, ...] = (
    *(reload_during_a_stream, two_tabs, killed_and_restarted, network_lost_during_a_stream, stream_lost_alone),
    *(sent_while_offline, long_conversation, context_full, many_conversations),
    *(telephone, keyboard_only, system_and_prompt, switch_for_training, export_and_import, markdown_and_copy, themes),
    *(deleted_elsewhere, passage),
)
