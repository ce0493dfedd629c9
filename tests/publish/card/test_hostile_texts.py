"""Texts of data, models and authors stay texts: the metadata can be read, and no HTML comes into the page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.publish.card.document import card_text, read_card
from tunesmith.publish.card.facts import CardFacts, ExampleReply
from tunesmith.publish.card.markdown import author_text, code, code_block, html_in, parse_blocks, plain, table
from tunesmith.publish.card.metadata import header
from tunesmith.publish.card.reading import read_facts
from tunesmith.publish.card.writing import card_sections
from tunesmith.recipe.schema import GateConfig
from tunesmith.text.visible import visible

PIECES = (
    *("<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "<!--", "-->", "<b", "</details>", "<?php", "]]>"),
    *("<!-- tunesmith:section usage -->", '<!-- tunesmith:digests {"x": "y"} -->', "---", "\n---\n", "```", "~~~", "`"),
    *("``", "|", "\\", "# heading", "\n## Usage\n", "[a](javascript:alert(1))", "![x](http://x/y)", "[b]: <x>", "&lt;"),
    *(
        "\n",
        "\n\n",
        " ",
        "    ",
        "\t",
        "- ",
        "1. ",
        "> ",
        "*",
        "_",
        "{{ x }}",
        "a: b",
        "? ",
        "%",
        "@",
        "\u2028",
        "\x1b[31m",
    ),
    *("\u202e", "\ufeff", "word", "<https://example.com>", "<a@b.c>", "$x$", "!!python/object:x", "'", '"'),
)
TEXTS = st.lists(st.sampled_from(PIECES) | st.text(max_size=8), min_size=1, max_size=8).map("".join).filter(str.strip)


@pytest.fixture(scope="module")
def facts(dolly_run: Path) -> CardFacts:
    return read_facts(dolly_run, lambda done, total, label: None)


def comments_of(text: str) -> list[str]:
    return [html.strip() for html in html_in(parse_blocks(text))]


@settings(deadline=None)
@given(TEXTS)
def test_shown_texts_bring_no_html_and_end_where_they_end(text: str) -> None:
    for shown in (plain(text), code(text), code_block(text), table([plain(text)], [[code(text)]]), author_text(text)):
        assert comments_of(f"{shown}\n\n<!-- end -->\n") == ["<!-- end -->"]


@settings(deadline=None)
@given(TEXTS)
def test_a_text_as_code_is_one_piece_of_code(text: str) -> None:
    (paragraph,) = [token for token in parse_blocks(f"x {code(text)} y") if token.type == "inline"]
    assert [token.type for token in paragraph.children or ()] in (["text", "code_inline", "text"], ["text"])


def test_the_markdown_of_an_author_is_kept() -> None:
    text = "*Good* at `a < b`, see <https://example.com> and [this](https://example.com).\n\n```\n<b>\n```\n\n- 1 < 2"
    assert author_text(text).replace("&lt;", "<") == text
    assert "`a < b`" in author_text(text)
    assert "\n<b>\n" in author_text(text)


@settings(deadline=None, max_examples=40)
@given(text=TEXTS, other=TEXTS)
def test_a_card_of_hostile_texts_is_read_back(facts: CardFacts, text: str, other: str) -> None:
    card = facts.card.model_copy(
        update={
            **{"title": text, "summary": other, "developer": text, "contact": other, "links": {text: other}},
            **{
                "limitations": text,
                "intended_use": other,
                "sections": {text: other},
                "citation": text,
                "tags": (other,),
            },
            **{"gate": GateConfig(prompt=text, fields={other: "checkbox"}), "license_reason": text},
        }
    )
    assert facts.prompt is not None
    prompt = replace(facts.prompt, texts=(other,), reply=ExampleReply(text, other, text, other))
    sources = tuple(replace(source, name=text, place=other) for source in facts.data.sources)
    hostile = replace(
        facts, card=card, prompt=prompt, name=text, data=replace(facts.data, sources=sources), recipe_text=other
    )
    written = card_text(header(hostile), list(card_sections(hostile)), {}, "0" * 16)
    loaded = ModelCard(written)
    assert loaded.data.extra_gated_prompt == visible(text)
    assert loaded.data.extra_gated_fields == {visible(other): "checkbox"}
    assert loaded.data.widget == [{"text": visible(other)}]
    comments = comments_of(loaded.text)
    assert [each for each in comments if not each.startswith("<!-- tunesmith:")] == []
    assert len(comments) == len(list(card_sections(hostile))) + 1
    assert read_card(written, {}).edited() == []
