"""The parts of the chat page's scripts that need no browser, run by Node.js where it is installed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import Any

import pytest

from tests.conftest import REPOSITORY
from tunesmith.serve.app.settings import ServerLimits

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="Node.js is not installed")
PAGE = REPOSITORY / "tunesmith" / "serve" / "page"

DOCUMENT = """
const node = (tag) => ({ tag, children: [], textContent: "", setAttribute() {}, addEventListener() {},
  append(...more) { this.children.push(...more); } });
globalThis.document = { createElement: node, createTextNode: (text) => ({ text }) };
"""
"""As much of a browser as the making of nodes needs."""

COUNTED = """
let read = 0; // characters and lines that were looked at
const { indexOf, trim } = String.prototype;
String.prototype.indexOf = function (what, from = 0) {
  const found = indexOf.call(this, what, from);
  read += (found < 0 ? this.length : found) - from + 1;
  return found;
};
String.prototype.trim = function () { read += 1; return trim.call(this); };
"""


def run(module: str, expression: str, given: Any = None, before: str = "") -> Any:
    """The value of an expression with the names that a module exports. given: what it can use under this name."""
    address = json.dumps((PAGE / module).as_uri())
    program = (
        f"{DOCUMENT}{before}\nconst page = await import({address}), given = {json.dumps(given)};\n"
        f"console.log(JSON.stringify({expression}));"
    )
    words = [str(NODE), "--input-type=module", "-"]
    done = subprocess.run(words, input=program, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


LONG_TEXTS = {
    "formulas without an end": ("markdown.js", "\\[\n", ""),
    "formulas without an end, in dollars and brackets": ("markdown.js", "$$\nx\n$$\n\\[\n", ""),
    "names of properties": ("markdown.js", "constructor\n", ""),
    "brackets before a late link": ("inline.js", "[", "](https://a.example)"),
    "brackets before a late link that has no end": ("inline.js", "[x](", ""),
    "images before a late link": ("inline.js", "![", "](https://a.example)"),
    "marks without an end": ("inline.js", "**a _b ~~c `d $e ", ""),
}


@pytest.mark.parametrize("name", LONG_TEXTS)
def test_twice_the_text_is_twice_the_work(name: str) -> None:
    module, piece, end = LONG_TEXTS[name]
    function = {"markdown.js": "findBlocks", "inline.js": "formatInline"}[module]
    count = f"given.map((text) => {{ read = 0; page.{function}(text); return read; }})"
    small, large = run(module, count, [piece * 2000 + end, piece * 4000 + end], COUNTED)
    assert large < 3 * small
    assert small < 100 * len(piece * 2000)


def test_formulas_and_links_are_still_found() -> None:
    blocks = run("markdown.js", "page.findBlocks(given)", "a\n\\[\nx\n\\]\n$$\ny\n$$\n\\[\nz")
    assert [block["kind"] for block in blocks] == ["paragraph", "formula", "formula", "paragraph"]
    text = "[a](https://b.example) [c [d](https://e.example) *f* [g](h) **i**"
    found = run("inline.js", "page.formatInline(given).map((each) => each.tag ?? each.text)", text)
    assert [each for each in found if each in ("a", "em", "strong")] == ["a", "a", "em", "strong"]


def test_the_rows_of_a_tree_are_imported_together() -> None:
    def row(tree: str, number: int) -> str:
        return json.dumps({"message_tree_id": tree, "message_id": f"{tree}{number}", "text": "x" * 30_000})

    lines = [row("a", number) for number in range(40)] + ["", row("b", 0), json.dumps({"messages": []})]
    lines += [json.dumps({"prompt": {}, "message_tree_id": "a"})] * 2
    parts = run("files.js", "page.splitFile(given)", "\n".join(lines))
    assert "".join(parts).split() == "\n".join(lines).split()
    assert len(parts) == 2
    assert parts[0].count('"a') == 80, "the id of the tree and the own id of each row"
    mixed = [row(tree, number) for number in range(30) for tree in ("a", "b")]
    mixed.insert(31, "")
    parts = run("files.js", "page.splitFile(given)", "\n".join(mixed))
    assert [(part.count('"a"'), part.count('"b"')) for part in parts] == [(30, 0), (0, 30)]


def test_a_conversation_larger_than_the_server_accepts_is_refused_before_it_is_sent() -> None:
    largest = int(re.findall(r"LARGEST_BODY = ([\d_]+)", (PAGE / "files.js").read_text())[0].replace("_", ""))
    assert 0.9 * ServerLimits().import_body < largest < ServerLimits().import_body - 1000
    split = "page.splitFile(given[0].repeat(given[1])).length"
    assert run("files.js", split, ["x", largest - 100]) == 1
    tried = f"(() => {{ try {{ return {split}; }} catch (error) {{ return error.message; }} }})()"
    assert "larger than the server accepts" in run("files.js", tried, ["x", largest])


def test_a_model_that_is_not_there_is_mentioned() -> None:
    text = "(page.state.models.push(...given), page.missingModel('gone'))"
    assert "gone is not there" in run("state.js", text, [])
    assert run("state.js", text, [{"name": "a"}]).endswith(" a is chosen.")
