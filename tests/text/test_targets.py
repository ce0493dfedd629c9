"""Which messages are trained on: every assistant turn, the last ones, everything, or what is marked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.text.conversations import HELLO, LONGER, NAMES, WITH_SYSTEM, trees
from tests.text.tokens.test_render import decoded_targets, trained
from tunesmith.recipe.schema import TextConfig
from tunesmith.text.targets import Targets, target_mask
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tokens.token_tree import TokenTree
from tunesmith.text.tokens.truncate import Policy, truncate
from tunesmith.text.tree import Message, Tree

Build = Callable[..., Renderer]
FIRST, SECOND = "The cat is Tom.<|endoftext|>", " Rex,\n\n  I think <|endoftext|>"


def training(built: Renderer, targets: Targets) -> Renderer:
    return Renderer(built.format, built.tokenizer, targets)


def marked(tree: Tree, *indices: int, value: bool = True) -> Tree:
    messages = [
        replace(message, trained=value) if index in indices else message for index, message in enumerate(tree.messages)
    ]
    return Tree(tuple(messages), tree.parents, tree.place)


@settings(max_examples=80, deadline=None)
@given(data=st.data(), name=st.sampled_from(NAMES), targets=st.sampled_from(["all", "marked"]))
def test_the_threads_of_a_tree_train_what_they_train_alone(
    data: st.DataObject, name: str, targets: Targets, renderer: Build
) -> None:
    built = training(renderer(name), targets)
    tree = data.draw(trees(name))
    rendered = built.render(tree)
    per_thread = 0
    for end, path in zip(rendered.ends(), tree.threads(), strict=True):
        alone = built.render(Tree.path([tree.messages[index] for index in path]))
        tokens = rendered.thread(end)
        assert rendered.ids[tokens].tolist() == alone.ids.tolist()
        assert trained(rendered, tokens) == trained(alone, np.arange(len(alone.ids)))
        per_thread += len(trained(rendered, tokens))
    assert per_thread == sum((end - start) * threads for start, end, _, _, threads in rendered.spans.tolist())


@settings(max_examples=60, deadline=None)
@given(data=st.data(), name=st.sampled_from(NAMES))
def test_all_trains_every_token_but_the_first_of_a_thread(data: st.DataObject, name: str, renderer: Build) -> None:
    built = training(renderer(name), "all")
    tree = data.draw(trees(name))
    everything = Tree(tuple(replace(message, trained=None) for message in tree.messages), tree.parents)
    rendered = built.render(everything)
    for end in rendered.ends():
        tokens = rendered.thread(end)
        assert trained(rendered, tokens) == [(place, place - 1) for place in range(1, len(tokens))]
    silent = built.render(Tree(tuple(replace(message, trained=False) for message in tree.messages), tree.parents))
    assert len(silent.spans) == 0


@settings(max_examples=60, deadline=None)
@given(data=st.data(), name=st.sampled_from(NAMES), limit=st.integers(2, 60), policy=st.sampled_from(["drop", "right"]))
def test_after_truncation_every_token_is_still_a_target(
    data: st.DataObject, name: str, limit: int, policy: Policy, renderer: Build
) -> None:
    tree = data.draw(trees(name))
    everything = Tree(tuple(replace(message, trained=None) for message in tree.messages), tree.parents)
    shorter = truncate(training(renderer(name), "all").render(everything), limit, policy)
    if isinstance(shorter, TokenTree):
        for end in shorter.ends():
            tokens = shorter.thread(end)
            assert trained(shorter, tokens) == [(place, place - 1) for place in range(1, len(tokens))]


@settings(max_examples=80, deadline=None)
@given(data=st.data(), name=st.sampled_from(NAMES))
def test_last_selects_replies_without_a_reply_below_them(data: st.DataObject, name: str, renderer: Build) -> None:
    tree = data.draw(trees(name))
    below: list[set[int]] = [set() for _ in tree.messages]
    for path in tree.threads():
        for depth, index in enumerate(path):
            below[index] |= set(path[depth + 1 :])
    wanted = [
        index
        for index, message in enumerate(tree.messages)
        if message.role == "assistant"
        and message.trained is not False
        and (message.trained or not any(tree.messages[other].role == "assistant" for other in below[index]))
    ]
    plain = Tree(tuple(replace(message, trained=None) for message in tree.messages), tree.parents)
    same = training(renderer(name), "marked").render(marked(plain, *wanted))
    found = training(renderer(name), "last").render(tree)
    assert found.ids.tolist() == same.ids.tolist()
    assert found.spans.tolist() == same.spans.tolist()


def test_the_last_reply_is_the_only_target(renderer: Build) -> None:
    built = training(renderer("oasst"), "last")
    assert decoded_targets(built, built.render(Tree.path(LONGER))) == [SECOND]
    assert decoded_targets(built, built.render(marked(Tree.path(LONGER), 1))) == [FIRST, "<|prompter|>", SECOND]
    assert decoded_targets(built, built.render(marked(Tree.path(LONGER), 3, value=False))) == []
    assert decoded_targets(built, built.render(Tree.path(LONGER[:3]))) == [
        FIRST,
        "<|prompter|>",
    ]  # which is a target of the reply before


def test_a_reply_that_is_answered_in_one_thread_is_not_the_last_of_another() -> None:
    tree = Tree((*LONGER, Message("user", "Hm.")), (-1, 0, 1, 2, 1))
    assert target_mask(tree, "last") == [False, False, False, True, False]


def test_only_marked_messages_are_targets(renderer: Build) -> None:
    built = training(renderer("oasst"), "marked")
    assert decoded_targets(built, built.render(Tree.path(LONGER))) == []
    assert decoded_targets(built, built.render(marked(Tree.path(LONGER), 1))) == [FIRST, "<|prompter|>"]
    system = training(renderer("oasst", train_system=True), "marked")
    assert decoded_targets(system, system.render(Tree.path(WITH_SYSTEM))) == []


def test_all_makes_every_token_a_target(renderer: Build) -> None:
    built = training(renderer("chatml"), "all")
    assert decoded_targets(built, built.render(Tree.path(HELLO))) == [
        "user\nWhat is the name of the cat?<|im_end|>",
        "\n<|im_start|>assistant\n",
        "The cat is Tom.<|im_end|>",
    ]
    silent = built.render(marked(Tree.path(HELLO), 0, value=False))
    assert decoded_targets(built, silent) == ["\n<|im_start|>assistant\n", "The cat is Tom.<|im_end|>"]


def test_what_siblings_share_is_a_target_once(renderer: Build) -> None:
    built = training(renderer("oasst"), "all")
    question, one, two = Message("user", "a"), Message("assistant", "b"), Message("assistant", "c")
    rendered = built.render(Tree((question, one, two), (-1, 0, 0)))
    assert rendered.spans.tolist() == [[1, 3, 0, 0, 2], [3, 4, 2, 1, 2], [4, 6, 3, 1, 1], [6, 8, 3, 2, 1]]
    one_silent = built.render(Tree((question, one, replace(two, trained=False)), (-1, 0, 0)))
    assert one_silent.segments.tolist() == [[0, 3, -1], [3, 6, 0], [6, 9, 0]]  # a target in one thread only


def test_the_recipe_has_the_same_targets() -> None:
    named, _ = get_args(TextConfig.model_fields["targets"].annotation)  # the other one is null
    assert get_args(named) == get_args(Targets)


@pytest.mark.parametrize("targets", get_args(Targets))
def test_targets_do_not_change_the_tokens(targets: Targets, renderer: Build) -> None:
    for name in NAMES:
        built = renderer(name)
        same = training(built, targets).render(Tree.path(HELLO))
        assert same.ids.tolist() == built.render(Tree.path(HELLO)).ids.tolist()
