"""The format for T5: what the encoder reads, what the decoder writes, and text that the vocabulary does not have."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.text.conversations import texts
from tests.text.formats.test_golden import dolly_tree
from tests.text.properties import contents
from tunesmith.errors import DataError
from tunesmith.text.tokenizer.codec import normalize_spaces
from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tokens.show import show_threads
from tunesmith.text.tokens.token_tree import TokenTree
from tunesmith.text.tree import Message, Tree
from tunesmith.verify.masks import find_mask_faults

Build = Callable[..., Renderer]
RECORDS = 500
known = st.lists(st.sampled_from(["the cat", "Hi!", "x = 1", "\n", "\n\n", "\t", "  ", "\n  - "]), max_size=8).map(
    "".join
)
PASSAGE = Message("user", "Sum up:\n\tall ", context="  the passage\nof two lines")


def written(renderer: Renderer, *messages: Message) -> str:
    return renderer.tokenizer.decode(renderer.render(Tree.path(messages)).ids.tolist(), skip_controls=False)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "Sum up: <_LB_> <_T_> all <_LB_> <_LB_> the passage <_LB_> of two lines"),
        (
            {"label": "Context:"},
            "Sum up: <_LB_> <_T_> all <_LB_> <_LB_> Context: <_LB_> the passage <_LB_> of two lines",
        ),
        ({"context": "drop"}, "Sum up: <_LB_> <_T_> all"),
        ({"context": "drop", "label": "Context:"}, "Sum up: <_LB_> <_T_> all"),
    ],
)
def test_instruction_and_passage_are_joined_as_documented(
    options: dict[str, str], expected: str, renderer: Build
) -> None:
    built, end = renderer("t5-dolly", **options), "<|endoftext|>"
    assert written(built, PASSAGE) == expected + end
    assert written(built, PASSAGE, Message("assistant", "one\n\ttwo")) == f"{expected}{end}one <_LB_> <_T_> two{end}"
    assert written(built, Message("user", "Why?"), Message("assistant", "")) == f"Why?{end}{end}"


def test_only_the_reply_and_its_end_are_trained(renderer: Build) -> None:
    built = renderer("t5-dolly", "t5_like")
    tree = built.render(Tree.path([Message("user", "the cat"), Message("assistant", "sat\nat")]))
    prompt = built.prompt([Message("user", "the cat")])
    assert tree.ids[: len(prompt)].tolist() == prompt
    assert prompt[-1] == tree.ids[-1] == 1
    assert tree.targets().tolist() == list(range(len(prompt), len(tree.ids)))
    assert 2 in tree.ids[tree.targets()].tolist(), "the bracket of a mark is the unknown token, and a target"


@pytest.mark.parametrize(
    ("messages", "objection"),
    [
        ([Message("user", " \u00a0 "), Message("assistant", "x")], "an empty instruction"),
        ([Message("system", "Be brief."), Message("user", "x")], "a system message, but format 't5-dolly'"),
        ([Message("user", "a"), Message("assistant", "b"), Message("user", "c")], "a second instruction"),
    ],
)
def test_messages_without_a_place_in_the_format_are_refused(
    messages: list[Message], objection: str, renderer: Build
) -> None:
    with pytest.raises(DataError, match=objection):
        renderer("t5-dolly").render(Tree.path(messages))


def check_reply(renderer: Renderer, text: str) -> None:
    """A conversation with this reply has no faults in its mask, and streams to the text that it is parsed to."""
    tree = Tree.path([Message("user", f"A {text}", context=text), Message("assistant", text)])
    rendered = renderer.render(tree)
    assert find_mask_faults(renderer, tree, rendered) == []
    ids = rendered.ids[rendered.targets()].tolist()
    decoder = renderer.stream()
    pieces = [*map(decoder.push, ids), decoder.finish()]
    assert "".join(pieces) == renderer.parse(ids).text
    if not any(set("<>_") & set(part) for part in text.split()):
        assert not any(set("<>_") & set(piece) for piece in pieces), "a mark was shown before it was whole"


@settings(max_examples=150, deadline=None)
@given(text=texts | contents, kind=st.sampled_from(["t5_like", "byte_level", "prefixed"]))
def test_any_text_is_rendered_verified_and_streamed(text: str, kind: str, renderer: Build) -> None:
    check_reply(renderer("t5-dolly", kind), text)


@settings(max_examples=100, deadline=None)
@given(text=texts | contents)
def test_any_text_passes_with_the_real_vocabulary(text: str, real: Build) -> None:
    check_reply(real("t5-dolly", "t5"), text)


@settings(max_examples=60, deadline=None)
@given(text=known)
def test_replies_of_known_characters_lose_nothing_but_spaces(text: str, real: Build) -> None:
    for option in ("keep", "drop"):
        built = real("t5-dolly", "t5", stray_spaces=option)
        ids = built.render(Tree.path([Message("user", "?"), Message("assistant", text)])).ids.tolist()
        read = built.parse(ids[len(built.prompt([Message("user", "?")])) :]).text
        assert normalize_spaces(read) == normalize_spaces(text)
    assert read == normalize_spaces(text)


def test_a_reply_that_lost_its_line_breaks_is_found(renderer: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    built = renderer("t5-dolly", "byte_level")
    tree = Tree.path([Message("user", "a"), Message("assistant", "b\nc")])
    lost = built.render(Tree.path([Message("user", "a"), Message("assistant", "b c")]))
    assert [fault.property for fault in find_mask_faults(built, tree, lost)] == ["reply"]
    monkeypatch.setattr(Tokenizer, "may_come_from_text", lambda self, token: not self.is_control(token))
    unknown = renderer("t5-dolly", "t5_like")
    assert [fault.property for fault in find_mask_faults(unknown, tree, unknown.render(tree))] == ["control"]


def test_a_vocabulary_that_cannot_spell_the_marks_is_refused(renderer: Build) -> None:
    with pytest.raises(DataError, match="writes line breaks and tabs as marks that this vocabulary cannot spell"):
        renderer("t5-dolly", "unigram")


def test_only_the_end_tokens_are_shown_as_control_tokens(renderer: Build) -> None:
    built = renderer("t5-dolly", "t5_like")
    tree = Tree.path([Message("user", "the <cat>"), Message("assistant", "sat\nat")])
    (thread,) = show_threads(built, tree, built.render(tree))
    assert [(token.text, token.role, token.target) for token in thread if token.control] == [
        ("</s>", "user", False),
        ("</s>", "assistant", True),
    ]
    assert any(token.ids == (2,) for token in thread)
    assert {token.role for token in thread if token.target} == {"assistant"}


def test_real_records_have_no_faults(real: Build, real_data: Callable[[str], Path]) -> None:
    """Some hold characters that the vocabulary lacks; line breaks and tabs all come back."""
    built, lost = real("t5-dolly", "t5"), 0
    lines = real_data("dolly/dolly-6000.jsonl").read_text(encoding="utf-8").splitlines()[:RECORDS]
    trees = [dolly_tree(json.loads(line)) for line in lines]
    for tree, rendered in zip(trees, built.render_many(trees), strict=True):
        assert isinstance(rendered, TokenTree)
        assert find_mask_faults(built, tree, rendered) == []
        wanted, read = tree.messages[1].text, built.parse(rendered.ids[rendered.targets()].tolist()).text
        assert [c for c in read if c in "\n\t"] == [c for c in wanted if c in "\n\t"]
        lost += normalize_spaces(read) != normalize_spaces(wanted)
    assert 0 < lost < RECORDS // 4
