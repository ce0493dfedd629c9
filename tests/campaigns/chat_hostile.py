"""Hostile texts in every place of the chat page and of the list of runs: nothing of them may be executed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

from playwright.sync_api import Browser

from tests.campaigns.chat_window import ChatWindow, chat_window, expect
from tests.campaigns.compare_page import MARKUP
from tests.campaigns.server_process import ChatServer
from tests.text.hostile import hostile_texts

PLACES = 500
WRAPPERS = (
    "{}", "**{}**", "`{}`", "[{}](https://example.org)", "[x]({})", "![{}](https://example.org/{})", "# {}", "> {}",
    "- {}\n  - {}", "| {} | b |\n|---|---|\n| {} | c |", "```{}\n{}\n```", "$$\n{}\n$$", "\\({}\\)", "<{}>", "~~{}~~",
    "https://example.org/{}",
)  # fmt: skip
SCRIPTED = (
    "javascript:window.executed=1",
    "data:text/html,<script>window.executed=1</script>",
    "vbscript:x",
    "//example.org",
)


def hostile(count: int = PLACES) -> list[str]:
    """Hostile texts, alone and in every construct of Markdown."""
    texts = [text for text in hostile_texts() if not any(mark == "\0" or "\ud800" <= mark <= "\udfff" for mark in text)]
    parts = [*MARKUP, *SCRIPTED, *texts]
    found = [wrapper.replace("{}", part) for wrapper in WRAPPERS for part in parts[: len(MARKUP) + len(SCRIPTED) + 12]]
    return (found + texts)[:count]


def check_hostile(browser: Browser, server: ChatServer, root: Path) -> int:
    """Hostile texts in every place of a conversation, and in replies while they are written."""
    texts = hostile()
    size = 50
    lines = []
    for start in range(0, len(texts), size):
        messages: list[dict[str, Any]] = []
        for number, text in enumerate(texts[start : start + size]):
            question = {"id": f"q{number}", "parent": messages[-1]["id"] if messages else None, "role": "user"}
            messages.append({**question, "text": text, "context": text, "shown": True})
            reply = {"id": f"a{number}", "parent": f"q{number}", "role": "assistant", "text": text, "shown": True}
            messages.append({**reply, "model": text, "comment": text, "error": text, "state": "failed"})
        record = {"kind": "tunesmith conversation", "version": 1, "id": f"hostile-{start}", "title": texts[start]}
        lines.append(json.dumps({**record, "system": texts[start], "messages": messages}))
    file = root / "hostile.jsonl"
    file.write_text("\n".join(lines) + "\n")
    with chat_window(browser, server) as window:
        window.open()
        window.page.set_input_files("#import-file", file)
        window.page.wait_for_selector("dialog >> text=conversations were imported")
        window.page.keyboard.press("Escape")
        for start in range(0, len(texts), size):
            window.open(f"#c/hostile-{start}")
            window.page.reload()
            window.ready()
            window.page.wait_for_selector(f".message.assistant >> nth={len(texts[start : start + size]) - 1}")
            window.page.click("#settings-toggle")
            check_unexecuted(window)
        stream_all(window, texts)
        check_unexecuted(window)
        others = check_other_places(window, root)
    return 6 * len(texts) + len(texts) + others


def check_other_places(window: ChatWindow, root: Path) -> int:
    """Hostile texts in the prompt of a reply, what a search found, the names of models, the banner, and a dialog."""
    page, texts = window.page, [*MARKUP, *SCRIPTED]
    for number, text in enumerate(texts):
        question = {"id": "q", "parent": None, "role": "user", "text": text, "shown": True}
        reply = {"id": "a", "parent": "q", "role": "assistant", "text": "x", "shown": True, "model": "chat"}
        record = {"kind": "tunesmith conversation", "version": 1, "id": f"prompt-{number}", "title": "t"}
        file = root / f"prompt-{number}.jsonl"
        file.write_text(json.dumps({**record, "messages": [question, reply]}))
        window.open()
        page.set_input_files("#import-file", file)
        page.wait_for_selector("dialog >> text=1 conversation was imported")
        page.keyboard.press("Escape")
        page.fill("#search", text.split("\n")[0][:200])
        page.wait_for_selector("#conversations .snippet")
        check_unexecuted(window)
        window.open(f"#c/prompt-{number}")
        page.reload()
        window.ready()
        window.tool("Prompt").click()
        page.wait_for_selector("dialog[open] .token")
        check_unexecuted(window)
        page.keyboard.press("Escape")
        window.open(f"#m/{quote(text, safe='')}")
        page.wait_for_selector("#banner >> text=is not there")
        check_unexecuted(window)
        wrong = {"name": f"{text}.jsonl", "mimeType": "text/plain", "buffer": b"this is no conversation"}
        page.set_input_files("#import-file", wrong)
        page.wait_for_selector("dialog .problem")
        check_unexecuted(window)
        page.keyboard.press("Escape")
    state = {"version": "0", "presets": [], "models": [{"name": text, "open": False} for text in texts]}
    page.route("**/api/state", lambda route: route.fulfill(json=state))
    window.open()
    page.reload()
    window.ready()
    page.click("#settings-toggle")
    check_unexecuted(window)
    found = page.evaluate("[...document.querySelectorAll('#model option')].map(each => each.value)")
    expect(found == texts, "the models are not those of the server")
    page.unroute_all()
    return 5 * len(texts)


def check_hostile_runs(browser: Browser, root: Path) -> int:
    """Hostile names of runs and pages, in the list of runs."""
    names = [text.replace("/", "\N{FRACTION SLASH}")[:100] for text in (*MARKUP, *SCRIPTED)]
    for name in names:
        (root / "runs" / name).mkdir(parents=True)
        (root / "runs" / name / "recipe.yaml").write_text(f"name: {json.dumps(name)}\n")
        (root / "runs" / name / "metrics.jsonl").write_text("")
        (root / "runs" / name / f"{name}.html").write_text("<!doctype html>")
    server = ChatServer(["--runs", str(root / "runs"), "--data", str(root / "runs-data")], root / "runs.log")
    server.start()
    try:
        with chat_window(browser, server) as window:
            window.page.goto(f"{server.address}/runs")
            window.page.wait_for_selector(f"tbody tr >> nth={len(names) - 1}")
            check_unexecuted(window)
    finally:
        server.end()
    return 2 * len(names)


def stream_all(window: ChatWindow, texts: list[str]) -> None:
    """Every text as a reply that is written character by character."""
    window.page.evaluate(
        """async (texts) => {
          const { MarkdownView } = await import("/page/markdown.js");
          for (const text of texts) {
            const place = document.createElement("div");
            document.body.append(place);
            const view = new MarkdownView(place);
            for (let end = 0; end <= text.length; end += 1) view.update(text.slice(0, end));
            const whole = document.createElement("div");
            new MarkdownView(whole).update(text);
            if (whole.innerHTML !== place.innerHTML) throw new Error(`the parts of ${text} give something else`);
            place.remove();
          }
        }""",
        texts,
    )


def check_unexecuted(window: ChatWindow) -> None:
    """Nothing of the texts is executed, and no element came from them."""
    page = window.page
    expect(page.evaluate("window.executed === undefined"), "a text was executed")
    foreign = "#main script, img, iframe, svg, base, object, embed, #thread style, #thread input"
    found = page.evaluate("selector => document.querySelectorAll(selector).length", foreign)
    expect(found == 0, f"{found} elements came from texts")
    links = page.evaluate("[...document.querySelectorAll('#thread a')].map(link => link.protocol)")
    expect(set(links) <= {"http:", "https:", "mailto:"}, f"links lead to {set(links)}")
