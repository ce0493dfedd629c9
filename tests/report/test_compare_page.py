"""The comparison page: one file whose only script is named in its policy, and whose texts are never HTML."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.report.comparisons import compared
from tunesmith.report import compare_page as page_module
from tunesmith.report.compare_page import compare_page, embedded_json, page_data, page_script
from tunesmith.report.compare_statistics import compare_columns, summarize
from tunesmith.text.visible import visible

HOSTILE = (
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "]]><img src=x onerror=alert(1)>",
    "<svg onload=alert(1)>",
    "&lt;b&gt;",
    "\u2028\u2029\x00\x1b[2J\u202e\ud800",
)


class Page(HTMLParser):
    """What a page consists of: its tags with their attributes, and the texts of its scripts, styles and replies."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        kind = dict(attrs).get("type") if tag == "script" else dict(attrs).get("class")
        self._open = f"{tag} {kind}" if kind else tag
        self.texts.setdefault(self._open, []).append("")

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts[self._open][-1] += data

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    @property
    def policy(self) -> dict[str, str]:
        """Directive -> its value."""
        (content,) = (tag["content"] for name, tag in self.tags if tag.get("http-equiv") == "Content-Security-Policy")
        return dict(part.strip().partition(" ")[::2] for part in str(content).split(";"))


def page_of(comparison) -> str:
    return compare_page(comparison, summarize(comparison), compare_columns(comparison), seed=3)


def with_reply(text: str):
    return compared([{(0, "k50"): [text], (1, "k50"): ["a reply"]}] * 2, models=("a", text))


def digest(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


def test_the_policy_allows_the_script_and_the_style_of_the_page_and_nothing_else() -> None:
    page = Page(page_of(with_reply("A reply.")))
    assert page.policy == {
        "default-src": "'none'",
        "script-src": digest(page.texts["script"][0]),
        "style-src": digest(page.texts["style"][0]),
        "require-trusted-types-for": "'script'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert page.texts["script"] == [page_script()]


def test_the_page_loads_nothing() -> None:
    page = Page(page_of(with_reply("See https://example.org/x.png ![x](https://example.org/y.png)")))
    named = [(tag, name) for tag, attributes in page.tags for name in attributes if name in ("src", "href", "srcset")]
    assert named == []
    assert not {"link", "iframe", "img", "object", "embed", "base"} & {tag for tag, _ in page.tags}
    assert "url(" not in page.texts["style"][0]
    assert "@import" not in page.texts["style"][0]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_text_adds_no_element(text: str) -> None:
    harmless, hostile = Page(page_of(with_reply("A reply."))), Page(page_of(with_reply(text)))
    assert hostile.tags == harmless.tags
    assert hostile.texts["script"] == harmless.texts["script"]


@settings(max_examples=150, deadline=None)
@given(text=st.text(st.characters(), max_size=60) | st.lists(st.sampled_from(HOSTILE), max_size=3).map("".join))
def test_any_text_comes_back_from_the_data_and_never_ends_its_element(text: str) -> None:
    embedded = embedded_json(page_data(with_reply(text), seed=0))
    assert not set("<>&\u2028\u2029") & set(embedded)
    page = Page(f'<script type="application/json">{embedded}</script><p>after</p>')
    (data,) = page.texts["script application/json"]
    assert json.loads(data)["prompts"][0][2][0][3] == visible(text)
    assert [tag for tag, _ in page.tags] == ["script", "p"]
    assert page_data(with_reply(text), seed=0) == json.loads(embedded)


def test_data_and_list_have_every_reply() -> None:
    page = Page(page_of(compared([{(0, "k"): ["one", "two"], (1, "k"): ["<three>"]}])))
    (data,) = page.texts["script application/json"]
    assert [reply[3] for reply in json.loads(data)["prompts"][0][2]] == ["one", "two", "<three>"]
    assert page.texts["div body plain"] == ["one", "two", "<three>"]


def test_the_list_of_a_large_comparison_has_the_first_replies_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_module, "LARGEST_COMPLETE_LIST", 5)
    page = Page(page_of(compared([{(0, "k"): ["one", "two"], (0, "g"): ["three"], (1, "k"): ["four"]}])))
    assert page.texts["div body plain"] == ["one", "three", "four"]
    assert "of the first reply of every model" in page.texts["p note"][1]
    assert [reply[3] for reply in json.loads(page.texts["script application/json"][0])["prompts"][0][2]] == [
        *("one", "two", "three", "four")
    ]


def test_the_numbers_are_on_the_page_with_rewards_only_where_there_are_some() -> None:
    replies = [{(0, "k"): ["one"], (1, "k"): ["three"]}] * 20
    plain, scored = (page_of(compared(replies, rewards=rewards)) for rewards in (None, {(0, "k"): [0.5] * 20}))
    assert "second is longer" in plain
    assert ">reward</th>" not in plain
    assert ">reward</th>" in scored
    assert ">0.50</td>" in scored


def test_every_control_that_the_script_uses_is_on_the_page() -> None:
    page = Page(page_of(with_reply("A reply.")))
    identifiers = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    used = set(re.findall(r'byId\("(\w+)"\)', page_script())) | set(re.findall(r'fillSelect\("(\w+)"', page_script()))
    assert used
    assert used <= identifiers
    labelled = [tag for tag, attributes in page.tags if tag in ("input", "select")]
    assert sum(tag == "label" for tag, _ in page.tags) == len(labelled)


def test_the_script_never_makes_html_of_text() -> None:
    script = page_script()
    for forbidden in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(", "fetch("):
        assert forbidden not in script
    assert "</script" not in script.lower()
    assert "<!--" not in script
