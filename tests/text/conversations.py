"""Conversations and trees to try formats with."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from tunesmith.text.formats.registry import FORMATS, build_format
from tunesmith.text.tree import Message, Role, Tree

NAMES = tuple(name for name in FORMATS if name != "tokenizer")  # which needs a tokenizer
MULTI_TURN = tuple(name for name in NAMES if build_format(name).multi_turn)
MARKS = ("<|assistant|>", "<|prompter|>", "### End", "### Response:\n", "<|im_end|>", "<|im_start|>", "</s>", "<|endo")
HELLO = (Message("user", "What is the name of the cat?"), Message("assistant", "The cat is Tom."))
LONGER = (*HELLO, Message("user", "And the dog?", context="by the door\n"), Message("assistant", " Rex,\n\n  I think "))
WITH_SYSTEM = (Message("system", "Be brief."), *LONGER)

words = st.sampled_from(
    ["the cat", " sat", "\n", "  ", "où", "🤖", "Hi", "x = 1", "\t", "你好", "...", "What is", *MARKS]
)
texts = st.lists(st.one_of(words, st.text(max_size=5)), min_size=1, max_size=5).map("".join)


@st.composite
def trees(draw: st.DrawFn, name: str, size: int = 9) -> Tree:
    """Any tree that the format allows: branches of users and assistants, some not trained, some with a passage."""
    next_roles = build_format(name).next_roles
    messages: list[Message] = []
    parents: list[int] = []
    path: list[int] = []
    for index in range(draw(st.integers(1, size))):
        # a message may be added below any message of the open path that can still be answered
        places = [depth for depth, place in enumerate(path, start=1) if next_roles[messages[place].role]]
        if index and not places:
            break
        depth = draw(st.sampled_from(places)) if index else 0
        parent = path[depth - 1] if index else -1
        role: Role = draw(st.sampled_from(next_roles[messages[parent].role if index else None]))
        text = draw(texts)
        if name in ("dolly", "t5-dolly"):  # the one refuses empty texts, the other instructions without a word
            text = text if text.strip() else "x"
        message = Message(role, text, context=draw(st.sampled_from(["", "", "a passage"])))
        messages.append(replace(message, trained=draw(st.sampled_from([None, None, True, False]))))
        parents.append(parent)
        path = [*path[:depth], index]
    if name == "llama-2" and messages[0].role == "system" and len(messages) == 1:
        messages, parents = [*messages, Message("user", "x")], [-1, 0]  # it has tokens only inside the question
    return Tree(tuple(messages), tuple(parents), place="test:1")
