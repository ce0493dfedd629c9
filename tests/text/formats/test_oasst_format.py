"""The formats of Open-Assistant: tags, prefix, version v2, and what they may not change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.text.conversations import HELLO, LONGER, WITH_SYSTEM, texts, trees
from tests.text.formats.test_chat_template import assert_equal, export
from tunesmith.errors import DataError, RecipeError
from tunesmith.text.formats.format import TextPiece
from tunesmith.text.formats.oasst import Oasst
from tunesmith.text.formats.registry import build_format
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tree import Message, Tree
from tunesmith.verify.masks import find_mask_faults

Build = Callable[..., Renderer]
LABELS = {"quality": 0.75, "humor": 0.0, "creativity": 0.25, "toxicity": 0.1}
ASKED = Message("user", "Who is Tom?", context="Tom is a cat.")
JUDGED = Message("assistant", "A cat, I think, or a dog.", lang="en", labels=LABELS)
TAGS: dict[str, Any] = {"system_tags": True, "property_dropout": 0.0, "property_order": "fixed"}


def text(renderer: Renderer, *messages: Message) -> str:
    return renderer.tokenizer.decode(renderer.render(Tree.path(messages)).ids.tolist(), skip_controls=False)


def trained_text(renderer: Renderer, *messages: Message) -> str:
    tree = renderer.render(Tree.path(messages))
    return renderer.tokenizer.decode(tree.ids[tree.targets()].tolist(), skip_controls=False)


def test_a_tag_is_before_the_reply_that_it_describes_and_is_no_target(renderer: Build) -> None:
    built = renderer("oasst", **TAGS, add_length=True, context="tag")
    assert text(built, ASKED, JUDGED) == (
        "<|prompter|>Who is Tom?<|endoftext|><|system|>lang: en\nquality: 0.8\nhumor: 0.0\ncreativity: 0.2\nlength: 2\n"
        "context: Tom is a cat.\n<|endoftext|><|assistant|>A cat, I think, or a dog.<|endoftext|>"
    )
    assert trained_text(built, ASKED, JUDGED) == "A cat, I think, or a dog.<|endoftext|>"


def test_an_unwritten_reply_has_no_tag(renderer: Build) -> None:
    built = renderer("oasst", **TAGS, add_length=True)
    found = built.tokenizer.decode(built.prompt([ASKED]), skip_controls=False)
    assert found == "<|prompter|>Who is Tom?\n\nTom is a cat.<|endoftext|><|assistant|>"
    assert text(built, Message("user", "?"), Message("assistant", "?")).count("<|system|>") == 1


@pytest.mark.parametrize("order", ["fixed", "drawn"])
def test_without_lines_there_is_no_tag(order: str, renderer: Build) -> None:
    plain = renderer("oasst", context="drop")
    built = renderer(
        "oasst", system_tags=True, add_length=True, property_dropout=1.0, property_order=order, context="tag"
    )
    assert text(built, ASKED, JUDGED) == text(plain, ASKED, JUDGED)


def lines(seed: int, reply: str, **options: Any) -> list[str]:
    """The names in the tag of a reply."""
    format = Oasst(system_tags=True, add_length=True, context="tag", seed=seed, **options)
    given = format.split(Message("assistant", reply, lang="en", labels=LABELS), [ASKED]).given
    tag = "".join(piece.text for piece in given if isinstance(piece, TextPiece))
    return [line.split(":")[0] for line in tag.splitlines()]


def test_properties_are_dropped_and_ordered_by_a_formula(renderer: Build) -> None:
    names = ["lang", "quality", "humor", "creativity", "length", "context"]
    drawn = [lines(seed, "a reply", property_dropout=0.0) for seed in range(300)]
    assert all(sorted(each) == sorted(names) and each[-1] == "context" for each in drawn)
    assert set(Counter(each[0] for each in drawn)) == set(names[:-1])
    assert min(Counter(each[0] for each in drawn).values()) > 30
    kept = Counter(name for seed in range(1000) for name in lines(seed, "a reply", property_dropout=0.3))
    assert all(abs(kept[name] - 700) < 75 for name in names)
    assert lines(4, "a reply") == lines(4, "a reply")
    assert len({tuple(lines(4, f"reply {number}")) for number in range(20)}) > 5
    # The formula itself: a change of it would make another data set of every recipe that uses it.
    assert lines(0, "a reply") == ["length", "creativity", "humor", "context"]


def test_branches_share_what_is_equal(renderer: Build) -> None:
    built = renderer("oasst", **TAGS)
    replies = [Message("assistant", "Yes.", labels={"quality": value}) for value in (0.1, 0.1, 0.9)]
    tree = built.render(Tree((ASKED, *replies), (-1, 0, 0, 0)))
    alone = [built.render(Tree.path([ASKED, reply])).ids.tolist() for reply in replies]
    assert [tree.ids[tree.thread(end)].tolist() for end in tree.ends()] == alone
    shared = built.tokenizer.decode(tree.ids[: int(tree.segments[0, 1])].tolist(), skip_controls=False)
    assert shared.endswith("<|endoftext|><|system|>quality: 0.")


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_any_tree_with_tags_has_the_threads_that_it_has_alone(data: st.DataObject, renderer: Build) -> None:
    built = renderer("oasst", system_tags=True, add_length=True, context="tag", prefix="Be kind.", seed=3)
    tree = data.draw(trees("oasst"))
    labels = st.dictionaries(st.sampled_from(list(LABELS)), st.floats(0, 1))
    messages = tuple(
        Message(
            m.role,
            m.text,
            m.context,
            lang=data.draw(st.sampled_from([None, "en", "<|system|>"])),
            labels=data.draw(labels),
        )
        for m in tree.messages
    )
    whole = built.render(Tree(messages, tree.parents))
    for end, path in zip(whole.ends(), tree.threads(), strict=True):
        alone = built.render(Tree.path([messages[index] for index in path]))
        assert whole.ids[whole.thread(end)].tolist() == alone.ids.tolist()
        front = built.tokenizer.decode(alone.ids[: built.opening].tolist(), skip_controls=False)
        assert front == "<|system|>Be kind.<|endoftext|>"


@settings(max_examples=60, deadline=None)
@given(question=texts, passage=texts, lang=texts, quality=st.floats(0, 1))
def test_nothing_in_a_tag_becomes_a_control_token(
    question: str, passage: str, lang: str, quality: float, renderer: Build
) -> None:
    built = renderer("oasst", **TAGS, context="tag")
    reply = Message("assistant", "Yes.", lang=lang, labels={"quality": quality})
    ids = built.render(Tree.path([Message("user", question, passage), reply])).ids.tolist()
    names = ("<|prompter|>", "eos", "<|system|>", "eos", "<|assistant|>", "eos")
    controls = [token for token in ids if built.tokenizer.is_control(token)]
    assert controls == [built.tokenizer.control(name) for name in names]


@pytest.mark.parametrize("value", [1.2, -0.1, float("nan"), float("inf")])
def test_a_label_out_of_range_is_refused(value: float, renderer: Build) -> None:
    record = Tree.path([ASKED, Message("assistant", "Yes.", labels={"humor": value})], place="a.jsonl:3")
    with pytest.raises(DataError, match=r"a\.jsonl:3: a humor of .*, not between 0 and 1"):
        renderer("oasst", **TAGS).render(record)
    renderer("oasst").render(record)


@pytest.mark.parametrize("train_system", [False, True])
def test_a_prefix_is_before_everything_and_is_no_target(train_system: bool, renderer: Build) -> None:
    plain = renderer("oasst", train_system=train_system)
    built = renderer("oasst", prefix="You are Joi.", train_system=train_system)
    front = "<|system|>You are Joi.<|endoftext|>"
    for messages in (HELLO, LONGER, WITH_SYSTEM):
        assert text(built, *messages) == front + text(plain, *messages)
        assert trained_text(built, *messages) == trained_text(plain, *messages)
    assert built.opening == len(built.tokenizer.encode("You are Joi.")) + 2
    assert plain.opening == 0
    assert (renderer("tulu", "prefixed").opening, renderer("dolly").opening) == (1, 0)


def test_version_v2_writes_its_own_tokens(renderer: Build) -> None:
    built = renderer("oasst", version="v2", prefix="Be kind.")
    front = "<prefix>Be kind.</prefix>"
    turns = "<human>What is the name of the cat?<bot>The cat is Tom.<|endoftext|>"
    assert text(built, *HELLO) == front + turns
    assert text(built, Message("system", "Be brief."), *HELLO) == f"{front}<prefix>Be brief.</prefix>{turns}"
    assert built.tokenizer.decode(built.prompt(HELLO[:1]), skip_controls=False) == front + turns.split("The cat")[0]
    again = [*HELLO, Message("user", "Why?")]
    assert trained_text(built, *again) == "The cat is Tom.<|endoftext|><human>"
    assert built.stop_ids == {built.tokenizer.control("eos"), built.tokenizer.control("<human>")}


HOSTILE = 'It\'s "so" {{ 1 + 1 }} {% raw %} }} %} \\n \\\n\té 🤖'


@pytest.mark.parametrize(
    "options", [{"prefix": HOSTILE}, {"version": "v2"}, {"version": "v2", "prefix": HOSTILE}, TAGS]
)
def test_the_template_gives_the_same_ids(options: dict[str, Any], renderer: Build, tmp_path: Any) -> None:
    """For replies without properties; a template cannot write tags."""
    built = renderer("oasst", **options)
    stock = export(built, tmp_path)
    for messages in (HELLO, LONGER, WITH_SYSTEM, WITH_SYSTEM[:3]):
        assert_equal(stock, built, messages)


def test_options_that_exclude_each_other_are_refused() -> None:
    with pytest.raises(RecipeError, match="no system_tags in version v2"):
        build_format("oasst", {"version": "v2", "system_tags": True})
    with pytest.raises(RecipeError, match="'context' of prompt format 'oasst' is 'tag', but there are no tags"):
        build_format("oasst", {"context": "tag"})


@pytest.mark.parametrize(
    ("option", "value", "advice"),
    [
        ("prefix", 3, "use text"),
        ("seed", -1, "use a whole number, 0 or more"),
        ("seed", True, "use a whole number, 0 or more"),
        ("property_dropout", 1.1, "use a number from 0 to 1"),
        ("property_dropout", "half", "use a number from 0 to 1"),
        ("version", "v3", "use 'v2.5' or 'v2'"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused(option: str, value: Any, advice: str) -> None:
    with pytest.raises(RecipeError, match=f"option {option!r} of prompt format 'oasst' cannot be") as caught:
        build_format("oasst", {option: value})
    assert caught.value.advice == advice


@pytest.mark.parametrize("options", [TAGS, {**TAGS, "add_length": True, "context": "tag"}, {"prefix": "Be kind."}])
def test_masks_of_formats_with_tags_have_no_faults(options: dict[str, Any], renderer: Build) -> None:
    built = renderer("oasst", **options)
    messages = [ASKED, JUDGED, Message("user", "Why?"), Message("assistant", "So.", labels={"quality": 0.2})]
    tree = Tree.path(messages)
    assert find_mask_faults(built, tree, built.render(tree)) == []


def test_where_all_is_trained_the_prefix_is_not(renderer: Build) -> None:
    built = renderer("oasst", prefix="Be kind.")
    whole = Renderer(built.format, built.tokenizer, "all").render(Tree.path(HELLO))
    assert whole.targets().tolist() == list(range(built.opening, len(whole.ids)))
