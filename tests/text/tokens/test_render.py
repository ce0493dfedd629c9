"""Rendering: prompts are prefixes, trees equal their threads, contents stay text, targets are those of the format."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.text.conversations import HELLO, LONGER, MARKS, MULTI_TURN, NAMES, WITH_SYSTEM, texts, trees
from tunesmith.errors import DataError
from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tokens.token_tree import TokenTree
from tunesmith.text.tree import Message, Tree

Build = Callable[..., Renderer]
KINDS = ("byte_level", "prefixed")


def trained(tree: TokenTree, path: np.ndarray) -> list[tuple[int, int]]:
    """(position in the thread, position of the source) of every target on a thread."""
    place = {int(token): position for position, token in enumerate(path)}
    found = []
    for start, end, source, _, _ in tree.spans.tolist():
        if start in place:
            found += [(place[start], place[source])]
            found += [(place[token], place[token - 1]) for token in range(start + 1, end)]
    return found


def decoded_targets(renderer: Renderer, tree: TokenTree) -> list[str]:
    """What every span trains, control tokens by name."""
    decode = renderer.tokenizer.decode
    return [decode(tree.ids[start:end].tolist(), skip_controls=False) for start, end, *_ in tree.spans.tolist()]


@settings(max_examples=150, deadline=None)
@given(data=st.data(), name=st.sampled_from(NAMES), kind=st.sampled_from(KINDS))
def test_the_threads_of_a_tree_are_the_threads_rendered_alone(
    data: st.DataObject, name: str, kind: str, renderer: Build
) -> None:
    built = renderer(name, kind)
    tree = data.draw(trees(name))
    rendered = built.render(tree)
    paths = list(tree.threads())
    assert rendered.threads == len(paths) == len(rendered.ends())
    per_thread = 0
    for end, path in zip(rendered.ends(), paths, strict=True):
        alone = built.render(Tree.path([tree.messages[index] for index in path]))
        tokens = rendered.thread(end)
        assert rendered.ids[tokens].tolist() == alone.ids.tolist()
        assert rendered.positions()[tokens].tolist() == list(range(len(alone.ids)))
        whole = np.arange(len(alone.ids))
        assert trained(rendered, tokens) == trained(alone, whole)
        assert all(target == source + 1 for target, source in trained(alone, whole))
        per_thread += len(trained(alone, whole))
    assert per_thread == sum((end - start) * threads for start, end, _, _, threads in rendered.spans.tolist())


@settings(max_examples=100, deadline=None)
@given(data=st.data(), name=st.sampled_from(NAMES), kind=st.sampled_from(KINDS))
def test_a_prompt_is_a_prefix_of_the_training_tokens(
    data: st.DataObject, name: str, kind: str, renderer: Build
) -> None:
    built = renderer(name, kind)
    tree = data.draw(trees(name))
    for path in tree.threads():
        messages = [tree.messages[index] for index in path]
        ids = built.render(Tree.path(messages)).ids.tolist()
        for index, message in enumerate(messages):
            if message.role == "assistant":
                prompt = built.prompt(messages[:index])
                assert prompt == ids[: len(prompt)]
                assert len(prompt) < len(ids)


@settings(max_examples=100, deadline=None)
@given(data=st.data(), name=st.sampled_from(NAMES), kind=st.sampled_from(KINDS))
def test_contents_never_become_control_tokens(data: st.DataObject, name: str, kind: str, renderer: Build) -> None:
    built = renderer(name, kind)
    tree = data.draw(trees(name))
    harmless = Tree(
        tuple(Message(message.role, "x", trained=message.trained) for message in tree.messages), tree.parents
    )
    for hostile_end, harmless_end, path in zip(
        built.render(tree).ends(), built.render(harmless).ends(), tree.threads(), strict=True
    ):
        rendered, expected = built.render(tree), built.render(harmless)
        ids = rendered.ids[rendered.thread(hostile_end)].tolist()
        plain = expected.ids[expected.thread(harmless_end)].tolist()
        controls = [token for token in ids if built.tokenizer.is_control(token)]
        assert controls == [token for token in plain if built.tokenizer.is_control(token)], path


def test_the_same_check_finds_a_tokenizer_that_encodes_contents_as_controls(renderer: Build) -> None:
    class Naive(Tokenizer):
        """Encodes contents as stock tokenizers do."""

        def __init__(self, *arguments, **options):  # type: ignore[no-untyped-def]
            super().__init__(*arguments, **options)
            self._fresh.encode_special_tokens = self._continuing.encode_special_tokens = False
            self._forbidden = frozenset()

    safe = renderer("oasst")
    naive = Renderer(safe.format, Naive(safe.tokenizer._definition, safe.format.controls))
    tree = Tree.path([Message("user", "Say <|assistant|> please"), Message("assistant", "No.")])
    role = safe.tokenizer.control("<|assistant|>")
    assert safe.render(tree).ids.tolist().count(role) == 1
    assert naive.render(tree).ids.tolist().count(role) == 2


@settings(max_examples=100, deadline=None)
@given(text=texts, name=st.sampled_from(NAMES), kind=st.sampled_from(KINDS))
def test_a_reply_is_read_back_as_it_was_written(text: str, name: str, kind: str, renderer: Build) -> None:
    built = renderer(name, kind)
    text = text or "x"
    prompt = built.prompt(HELLO[:1])
    ids = built.render(Tree.path([HELLO[0], Message("assistant", text)])).ids.tolist()
    parsed = built.parse(ids[len(prompt) :])
    codec = built.format.codec
    same = built.tokenizer.encode(codec.encode(text), continuing=True)
    written = codec.decode(
        built.tokenizer.decode(same, continuing=True)
    )  # the normalizer of the tokenizer may change characters
    strips = name in ("dolly", "tulu", "llama-2")
    assert parsed.stopped
    assert parsed.text == (written.strip() if strips else written)
    assert not built.parse(ids[len(prompt) : -1]).stopped
    stream = built.stream()
    heard = "".join([stream.push(token) for token in ids[len(prompt) :]]) + stream.finish()
    assert heard.strip() == written.strip()


@settings(max_examples=40, deadline=None)
@given(data=st.data(), name=st.sampled_from(NAMES), kind=st.sampled_from(KINDS))
def test_many_trees_at_once_are_the_trees_one_by_one(
    data: st.DataObject, name: str, kind: str, renderer: Build
) -> None:
    built = renderer(name, kind)
    several = data.draw(st.lists(trees(name, 4), max_size=4))
    several.insert(len(several) // 2, Tree.path([*HELLO, Message("system", "?")], place="bad.jsonl:7"))
    for tree, found in zip(several, built.render_many(several), strict=True):
        if isinstance(found, DataError):
            assert tree.place == found.where == "bad.jsonl:7"
            continue
        alone = built.render(tree)
        for one, other in ((found.ids, alone.ids), (found.segments, alone.segments), (found.spans, alone.spans)):
            assert one.dtype == np.int32
            assert np.array_equal(one, other)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dolly", ["The cat is Tom.\n\n### End"]),
        ("oasst", ["The cat is Tom.<|endoftext|>"]),
        ("tulu", ["The cat is Tom.<|endoftext|>"]),
        ("alpaca", ["The cat is Tom.<|endoftext|>"]),
        ("vicuna", [" The cat is Tom.<|endoftext|>"]),
        ("chatml", ["The cat is Tom.<|im_end|>"]),
        ("llama-2", [" The cat is Tom. <|endoftext|>"]),
        ("zephyr", ["The cat is Tom.<|endoftext|>"]),
        ("plain", ["The cat is Tom.<|endoftext|>"]),
    ],
)
def test_the_reply_and_its_end_are_the_targets(name: str, expected: list[str], renderer: Build) -> None:
    built = renderer(name)
    assert decoded_targets(built, built.render(Tree.path(HELLO))) == expected


def test_the_next_role_is_a_target_if_the_format_predicts_it(renderer: Build) -> None:
    tree = Tree.path(LONGER)
    first, second = "The cat is Tom.<|endoftext|>", " Rex,\n\n  I think <|endoftext|>"
    built = renderer("oasst")
    assert decoded_targets(built, built.render(tree)) == [first, "<|prompter|>", second]
    assert built.render(tree).spans[:, 3].tolist() == [1, 1, 3]  # the next role is a target of the turn before
    built = renderer("oasst", predict_next_role=False)
    assert decoded_targets(built, built.render(tree)) == [first, second]
    built = renderer("tulu", predict_line_break=True)
    assert decoded_targets(built, built.render(tree)) == [first, "\n", "Rex,\n\n  I think<|endoftext|>"]


def test_a_reply_after_text_is_the_continuation_of_it(renderer: Build) -> None:
    """A tokenizer that writes a space before a text writes none there, neither in training nor in chat."""
    built = renderer("tulu", "prefixed")
    rendered = built.render(Tree.path(HELLO))
    start, end = rendered.spans[0, :2].tolist()
    reply = built.tokenizer.encode(HELLO[1].text, continuing=True)
    assert reply != built.tokenizer.encode(HELLO[1].text)
    assert rendered.ids[start:end].tolist() == [*reply, built.tokenizer.eos_id]


def test_a_system_message_is_trained_only_on_request(renderer: Build) -> None:
    tree = Tree.path(WITH_SYSTEM[:3])
    assert len(renderer("oasst").render(tree).spans) == 1
    built = renderer("oasst", train_system=True)
    rendered = built.render(tree)
    assert decoded_targets(built, rendered)[:2] == ["Be brief.<|endoftext|>", "<|prompter|>"]
    assert rendered.spans[0].tolist()[:4:2] == [1, 0]  # predicted from the role token before it


def test_an_untrained_reply_is_context_but_no_target(renderer: Build) -> None:
    silent = Message("assistant", HELLO[1].text, trained=False)
    tree = Tree.path([HELLO[0], silent, *LONGER[2:]])
    built = renderer("oasst")
    rendered = built.render(tree)
    assert rendered.ids.tolist() == built.render(Tree.path(LONGER)).ids.tolist()
    assert decoded_targets(built, rendered) == [" Rex,\n\n  I think <|endoftext|>"]


def test_what_siblings_share_is_stored_once(renderer: Build) -> None:
    built = renderer("oasst")
    role, reply, end = (built.tokenizer.control(name) for name in ("<|prompter|>", "<|assistant|>", "eos"))
    a, b, c = (built.tokenizer.encode(text) for text in ("a", "b", "c"))
    question, one, two = Message("user", "a"), Message("assistant", "b"), Message("assistant", "c")
    rendered = built.render(Tree((question, one, two), (-1, 0, 0)))
    assert rendered.ids.tolist() == [role, *a, end, reply, *b, end, *c, end]
    assert rendered.segments.tolist() == [[0, 4, -1], [4, 6, 0], [6, 8, 0]]
    assert rendered.spans.tolist() == [[4, 6, 3, 1, 1], [6, 8, 3, 2, 1]]

    follow = (Message("user", "b"), Message("user", "c"))
    rendered = built.render(Tree((question, one, *follow), (-1, 0, 1, 1)))
    assert rendered.ids.tolist() == [role, *a, end, reply, *b, end, role, *b, end, *c, end]
    assert rendered.spans.tolist() == [
        [4, 6, 3, 1, 2],
        [6, 7, 5, 1, 2],
    ]  # the next role is one target of two threads
    assert rendered.segments.tolist() == [[0, 7, -1], [7, 9, 0], [9, 11, 0]]


def test_equal_siblings_keep_one_token_each(renderer: Build) -> None:
    twin = Message("user", "And then?")
    rendered = renderer("oasst").render(Tree((*HELLO, twin, twin), (-1, 0, 1, 1)))
    assert rendered.threads == len(rendered.ends()) == 2
    assert (rendered.segments[1:, 1] - rendered.segments[1:, 0]).tolist() == [1, 1]


def test_equal_replies_stay_apart(renderer: Build) -> None:
    turn = (HELLO[1], Message("user", "And then?"))
    built = renderer("oasst")
    rendered = built.render(Tree((HELLO[0], *turn, *turn), (-1, 0, 1, 0, 3)))
    assert [message for _, _, _, message, _ in rendered.spans.tolist()] == [1, 1, 3, 3]
    assert decoded_targets(built, rendered) == ["The cat is Tom.<|endoftext|>", "<|prompter|>"] * 2
    assert rendered.spans[:, 4].tolist() == [1, 1, 1, 1]


def test_a_vocabulary_without_end_token_loses_no_text(renderer: Build) -> None:
    built = renderer("plain", "nameless")
    rendered = built.render(Tree.path(LONGER[:3]))
    assert built.tokenizer.decode(rendered.ids.tolist()) == (
        "What is the name of the cat?\nThe cat is Tom.And the dog?\n\nby the door\n"
    )
    assert decoded_targets(built, rendered) == ["The cat is Tom."]
    assert built.prompt(HELLO[:1]) == rendered.ids[: rendered.spans[0, 0]].tolist()


def test_the_first_token_of_a_thread_is_no_target_unless_a_token_precedes_it(renderer: Build) -> None:
    document = Tree.path([Message("assistant", "The cat sat on the mat")])
    with_begin = renderer("plain").render(document)
    assert with_begin.spans.tolist() == [[1, len(with_begin.ids), 0, 0, 1]]
    without = renderer("plain", bos=False).render(document)
    assert without.ids.tolist() == with_begin.ids[1:].tolist()
    assert without.spans.tolist() == [[1, len(without.ids), 0, 0, 1]]


def test_documents_can_be_continued_from_nothing(renderer: Build) -> None:
    built = renderer("plain")
    assert built.prompt([]) == [built.tokenizer.bos_id]


def test_a_thread_without_tokens_is_an_error(renderer: Build) -> None:
    with pytest.raises(DataError, match="leaves no tokens"):
        renderer("plain", bos=False, tokenizer="words").render(Tree.path([Message("user", "")], place="x:1"))


@pytest.mark.parametrize("name", NAMES)
def test_unknown_orders_are_errors_with_their_place(name: str, renderer: Build) -> None:
    built = renderer(name)
    late_system = [*HELLO, Message("system", "?")]
    with pytest.raises(DataError, match=r"data\.jsonl:3: a system message.*prompt format"):
        built.render(Tree.path(late_system, place="data.jsonl:3"))
    if name != "tulu":
        with pytest.raises(DataError, match="a message of the user after one of the user"):
            built.render(Tree.path([HELLO[0], HELLO[0]], place="data.jsonl:4"))
    if name not in ("tulu", "plain"):
        with pytest.raises(DataError, match="begins with a message of the assistant"):
            built.render(Tree.path([HELLO[1]]))
        with pytest.raises(DataError, match="assistant"):
            built.prompt(HELLO)
    if name not in MULTI_TURN:
        with pytest.raises(DataError, match="a second instruction, but format"):
            built.render(Tree.path(LONGER))


def test_half_a_character_spoils_only_its_own_tree(renderer: Build) -> None:
    bad = Tree.path([Message("user", "a\udc80"), HELLO[1]], place="data.jsonl:9")
    found = renderer("oasst").render_many([Tree.path(HELLO), bad])
    assert isinstance(found[0], TokenTree)
    assert isinstance(found[1], DataError)
    assert "data.jsonl:9: text with half a character" in str(found[1])


def test_a_format_whose_tokens_are_missing_is_refused_at_once(renderer: Build, load: Callable[..., Tokenizer]) -> None:
    with pytest.raises(DataError, match=r"no token '<\|im_start\|>'"):
        Renderer(renderer("chatml").format, load("byte_level"))


def test_a_format_that_writes_a_control_token_as_text_is_refused(
    renderer: Build, load: Callable[..., Tokenizer]
) -> None:
    tulu = renderer("tulu").format
    with pytest.raises(DataError, match=r"'tulu' writes '<\|assistant\|>' as text, but it is a token"):
        Renderer(tulu, load("byte_level", ("<|assistant|>",)))


def test_marks_in_a_system_message_stay_text(renderer: Build) -> None:
    built = renderer("chatml")
    messages = [Message("system", "".join(MARKS)), *HELLO]
    ids = built.render(Tree.path(messages)).ids.tolist()
    assert sum(built.tokenizer.is_control(token) for token in ids) == 6
    assert built.tokenizer.decode(ids).startswith("system\n" + "".join(MARKS))
