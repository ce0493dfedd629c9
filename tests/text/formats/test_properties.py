"""Every prompt format with contents that look like control tokens; ``make properties`` draws many more of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.text.properties import KINDS, SUBJECTS, Subject, check, conversations, open_subject
from tunesmith.text.formats.format import Split, TextPiece
from tunesmith.text.formats.registry import FORMATS
from tunesmith.text.tree import Message

Open = Callable[[str, str], Subject]


@pytest.fixture(scope="module")
def open_cached(tmp_path_factory: pytest.TempPathFactory) -> Open:
    root = tmp_path_factory.mktemp("subjects")
    return cache(lambda name, kind: open_subject(name, kind, root))


def test_every_format_is_a_subject() -> None:
    assert {name.partition("/")[0] for name in SUBJECTS} == set(FORMATS)


@pytest.mark.parametrize("name", SUBJECTS)
@settings(max_examples=100, deadline=None)
@given(data=st.data(), kind=st.sampled_from(KINDS))
def test_every_conversation_has_the_properties(data: st.DataObject, kind: str, name: str, open_cached: Open) -> None:
    messages, harmless = data.draw(conversations(name))
    check(open_cached(name, kind), messages, harmless)


@pytest.mark.parametrize("fault", ["targets", "reply", "template"])
def test_a_format_without_a_property_is_found(fault: str, open_cached: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = open_cached("chatml", "bytes")
    kind, split = type(subject.renderer.format), type(subject.renderer.format).split

    def wrong(self: object, message: Message, before: tuple[Message, ...]) -> Split:
        found = split(self, message, before)  # type: ignore[arg-type]
        if message.role != "assistant":
            return found
        if fault == "targets":  # the reply is given instead of produced
            return Split((*found.given, *found.produced[:1]), found.produced[1:])
        if fault == "reply":
            return Split(found.given, (TextPiece("?"), *found.produced))
        return Split((*found.given, TextPiece(" ")), found.produced)

    conversation = [Message("user", "a"), Message("assistant", "b")]
    check(subject, conversation, harmless=True)
    monkeypatch.setattr(kind, "split", wrong)
    with pytest.raises(AssertionError, match="other"):
        check(subject, conversation, harmless=True)
