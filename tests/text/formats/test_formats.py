"""Prompt formats: the text they write, their options, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.text.conversations import HELLO, LONGER, NAMES, WITH_SYSTEM
from tunesmith.errors import RecipeError
from tunesmith.text.formats.format import Control, TextPiece
from tunesmith.text.formats.registry import FORMATS, build_format
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tree import Message, Tree

Build = Callable[..., Renderer]
TASK = "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
)


def written(renderer: Renderer, messages: tuple[Message, ...]) -> str:
    """The training text, control tokens by name."""
    return renderer.tokenizer.decode(renderer.render(Tree.path(messages)).ids.tolist(), skip_controls=False)


def test_dolly_writes_introduction_keys_and_end(renderer: Build) -> None:
    asked = Message("user", "Name it.", context="A passage.")
    assert written(renderer("dolly"), (asked, HELLO[1])) == (
        f"{TASK}### Instruction:\nName it.\n\nInput:\nA passage.\n\n### Response:\nThe cat is Tom.\n\n### End"
    )


def test_alpaca_has_two_prompts(renderer: Build) -> None:
    with_input = (Message("user", "Name it.", context="A passage."), HELLO[1])
    assert written(renderer("alpaca", bos=False), with_input) == (
        f"{INPUT}### Instruction:\nName it.\n\n### Input:\nA passage.\n\n### Response:The cat is Tom.<|endoftext|>"
    )
    assert written(renderer("alpaca"), HELLO) == (
        f"<|endoftext|>{TASK}### Instruction:\n{HELLO[0].text}\n\n### Response:The cat is Tom.<|endoftext|>"
    )


def test_oasst_writes_role_text_and_end(renderer: Build) -> None:
    assert written(renderer("oasst"), WITH_SYSTEM) == (
        "<|system|>Be brief.<|endoftext|><|prompter|>What is the name of the cat?<|endoftext|>"
        "<|assistant|>The cat is Tom.<|endoftext|><|prompter|>And the dog?\n\nby the door\n<|endoftext|>"
        "<|assistant|> Rex,\n\n  I think <|endoftext|>"
    )


def test_tulu_strips_contents_and_breaks_the_line_after_the_end(renderer: Build) -> None:
    assert written(renderer("tulu"), WITH_SYSTEM) == (
        "<|endoftext|><|system|>\nBe brief.\n<|user|>\nWhat is the name of the cat?\n<|assistant|>\nThe cat is Tom."
        "<|endoftext|>\n<|user|>\nAnd the dog?\n\nby the door\n<|assistant|>\nRex,\n\n  I think<|endoftext|>"
    )
    assert written(renderer("tulu", strip=False, bos=False), LONGER).endswith("\n Rex,\n\n  I think <|endoftext|>")


def test_chatml_puts_turns_between_marks(renderer: Build) -> None:
    assert written(renderer("chatml"), WITH_SYSTEM[:3]) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhat is the name of the cat?<|im_end|>\n"
        "<|im_start|>assistant\nThe cat is Tom.<|im_end|>"
    )


def test_vicuna_writes_one_line_with_its_own_system_sentence(renderer: Build) -> None:
    sentence = (
        "A chat between a curious user and an artificial intelligence assistant. "
        "The assistant gives helpful, detailed, and polite answers to the user's questions."
    )
    assert written(renderer("vicuna"), LONGER) == (
        f"<|endoftext|>{sentence} USER: What is the name of the cat? ASSISTANT: The cat is Tom.<|endoftext|>"
        "USER: And the dog?\n\nby the door\n ASSISTANT:  Rex,\n\n  I think <|endoftext|>"
    )
    assert written(renderer("vicuna", bos=False), WITH_SYSTEM[:3]) == (
        "Be brief. USER: What is the name of the cat? ASSISTANT: The cat is Tom.<|endoftext|>"
    )


def test_llama_2_folds_the_system_message_into_the_first_question(renderer: Build) -> None:
    assert written(renderer("llama-2"), WITH_SYSTEM) == (
        "<|endoftext|>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nWhat is the name of the cat? [/INST] The cat is Tom. "
        "<|endoftext|><|endoftext|>[INST] And the dog?\n\nby the door [/INST] Rex,\n\n  I think <|endoftext|>"
    )
    assert written(renderer("llama-2"), HELLO).startswith(
        "<|endoftext|>[INST] What is the name of the cat? [/INST] The"
    )


def test_zephyr_ends_every_turn_and_breaks_the_line_before_the_next(renderer: Build) -> None:
    assert written(renderer("zephyr"), WITH_SYSTEM[:3]) == (
        "<|system|>\nBe brief.<|endoftext|>\n<|user|>\nWhat is the name of the cat?<|endoftext|>\n"
        "<|assistant|>\nThe cat is Tom.<|endoftext|>"
    )
    assert written(renderer("zephyr", bos=True), HELLO).startswith("<|endoftext|><|user|>\n")


def test_plain_writes_lines_and_documents(renderer: Build) -> None:
    assert written(renderer("plain"), WITH_SYSTEM) == (
        "<|endoftext|>Be brief.\nWhat is the name of the cat?\nThe cat is Tom.<|endoftext|>"
        "And the dog?\n\nby the door\n Rex,\n\n  I think <|endoftext|>"
    )
    assert written(renderer("plain"), (Message("assistant", "Once."),)) == "<|endoftext|>Once.<|endoftext|>"


@pytest.mark.parametrize("name", ["oasst", "tulu", "vicuna", "chatml", "llama-2", "zephyr", "plain"])
def test_a_passage_is_kept_unless_it_is_to_be_dropped(name: str, renderer: Build) -> None:
    assert "by the door" in written(renderer(name), LONGER)
    assert "by the door" not in written(renderer(name, context="drop"), LONGER)


@pytest.mark.parametrize("name", NAMES)
def test_the_properties_of_a_format_agree_with_its_split(name: str) -> None:
    built = build_format(name)
    assert built.name == name
    assert built.multi_turn == ("user" in built.next_roles["assistant"])
    first = built.split(HELLO[0], ())
    assert first.given[: len(built.opening)] == built.opening
    assert first.produced == ()
    last = built.split(HELLO[1], HELLO[:1]).produced[-1]
    assert isinstance(last, Control)
    assert last.name in built.stops
    assert hash(build_format(name)) == hash(built)


def test_a_split_consists_of_control_and_text_pieces() -> None:
    split = build_format("oasst").split(LONGER[2], LONGER[:2])
    assert split.given == (Control("<|prompter|>"), TextPiece("And the dog?\n\nby the door\n"), Control("eos"))
    assert (split.produced, split.predicted_by_previous) == ((), 1)


def test_options_are_checked_and_the_most_similar_name_is_suggested() -> None:
    assert build_format("oasst", {"context": "drop"}) == FORMATS["oasst"](context="drop")  # type: ignore[call-arg]
    with pytest.raises(RecipeError, match=r"unknown prompt format 'oast'; did you mean 'oasst'\?"):
        build_format("oast")
    with pytest.raises(RecipeError, match=r"no option 'contxt'; did you mean 'context'\?"):
        build_format("tulu", {"contxt": "drop"})
    with pytest.raises(
        RecipeError, match="option 'context' of prompt format 'tulu' cannot be 'lose'; use 'keep' or 'dr"
    ):
        build_format("tulu", {"context": "lose"})
    with pytest.raises(RecipeError, match="cannot be 1; use false or true"):
        build_format("tulu", {"bos": 1})
    with pytest.raises(RecipeError, match="'dolly' has no option 'bos'; leave it out"):
        build_format("dolly", {"bos": True})


@pytest.mark.parametrize(("name", "raw", "text"), [("dolly", " one \n", "one"), ("oasst", " one \n", " one \n")])
def test_a_reply_without_an_end_token_is_not_stopped(name: str, raw: str, text: str, renderer: Build) -> None:
    built = renderer(name)
    ids = built.tokenizer.encode(raw)
    assert (built.parse(ids).text, built.parse(ids).stopped) == (text, False)
    for stop in built.stop_ids:
        assert (built.parse([*ids, stop, *ids]).text, built.parse([*ids, stop]).stopped) == (text, True)


def test_dolly_replies_show_other_control_tokens(renderer: Build) -> None:
    built = renderer("dolly")
    ids = [*built.tokenizer.encode("one"), built.tokenizer.control("eos")]
    assert built.parse(ids).text == "one<|endoftext|>"
