"""Texts become the ids of lm-evaluation-harness; messages become the ids of training."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from lm_eval.models.huggingface import HFLM

from tests.benchmark.small_tasks import write_model
from tests.text.small_tokenizers import byte_level, t5_like, write_tokenizer
from tunesmith.benchmark.encoding import ChatEncoder, PlainEncoder, produced_text, write_messages
from tunesmith.errors import DataError
from tunesmith.model.load import load_model
from tunesmith.model.stock_tokenizer import load_stock_tokenizer
from tunesmith.text.formats.registry import build_format
from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tree import Message, Tree

TEXT = st.text("abc ?!éß\n.12</s>", max_size=12)
Stock = Callable[[str], tuple[HFLM, PlainEncoder]]
ONE_TURN = {"dolly": "<|endoftext|>", "alpaca": "", "oasst": "", "tulu": "", "chatml": "", "plain": ""}


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Stock:
    root = tmp_path_factory.mktemp("tokenizers")

    @cache
    def build(architecture: str) -> tuple[HFLM, PlainEncoder]:
        directory = write_model(root / architecture, architecture)
        tokenizer = load_stock_tokenizer(directory)
        model = load_model(str(directory))
        harness = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1)
        return harness, PlainEncoder(tokenizer, harness.prefix_token_id, bool(model.config.is_encoder_decoder))

    return build


@pytest.mark.parametrize("architecture", ["gpt_neox", "llama", "t5"])
@settings(max_examples=60, deadline=None)
@example(context=">", continuation="\n1")  # the tokenizer of Llama in the tests has a token for ">" with a line break
@given(context=TEXT, continuation=TEXT.filter(lambda text: text.strip() != ""))
def test_every_pair_has_the_ids_of_the_harness(
    architecture: str, context: str, continuation: str, stock: Stock
) -> None:
    harness, encoder = stock(architecture)
    kept: list[tuple[list[int], list[int]]] = []
    if context.strip() == "" and context:
        return  # the harness refuses a context of spaces; it counts as an empty one here
    if context:
        kept = [harness._encode_pair(context, continuation)]
    else:
        ids = harness.tok_encode(continuation, add_special_tokens=False)
        prefix = harness.prefix_token_id
        kept = [([prefix], ids) if ids[0] != prefix else (ids[:1], ids[1:])]
    expected = [(tuple(before), tuple(after)) for before, after in kept]
    if not expected[0][1]:
        with pytest.raises(DataError, match="no tokens after"):
            encoder.pairs([(context, continuation)])
        return
    assert encoder.pairs([(context, continuation), ("a", " b")])[:1] == expected


def test_spaces_at_the_end_of_a_context_belong_to_the_answer(stock: Stock) -> None:
    _, encoder = stock("gpt_neox")
    assert encoder.pairs([("the cat ", "sat")]) == encoder.pairs([("the cat", " sat")])


def test_an_empty_context_is_the_first_token_of_a_text(stock: Stock) -> None:
    _, encoder = stock("llama")
    ((before, after),) = encoder.pairs([("", "the cat")])
    assert before == (encoder.prefix,)
    assert encoder.prefix not in after


def test_a_tokenizer_with_bos_adds_it_once(stock: Stock) -> None:
    _, encoder = stock("llama")
    pairs = encoder.pairs([("the cat", " sat"), ("<s>the cat", " sat")])
    assert [before.count(encoder.prefix) for before, _ in pairs] == [1, 1]


def renderer_of(name: str, directory: Path) -> Renderer:
    format = build_format(name)
    end = "<|endoftext|>"
    if name == "t5-dolly":
        write_tokenizer(directory, t5_like(), eos="</s>", unk="<unk>", pad="<pad>")
    else:
        write_tokenizer(directory, byte_level(), bos=end, eos=end, unk=end)
    return Renderer(format, Tokenizer.load(str(directory), format.controls))


@pytest.mark.parametrize(
    "name", ["dolly", "oasst", "tulu", "alpaca", "vicuna", "chatml", "llama-2", "zephyr", "plain", "t5-dolly"]
)
def test_a_chat_has_the_ids_of_training_up_to_the_end_of_the_answer(name: str, tmp_path: Path) -> None:
    renderer = renderer_of(name, tmp_path)
    answer = "The Douro"
    context = write_messages([{"role": "user", "content": "Name a river </s>"}])
    ((before, after),) = ChatEncoder(renderer).pairs([(context, answer)])
    user = Message("user", "Name a river </s>")
    whole = renderer.render(Tree.path([user, Message("assistant", answer)])).ids.tolist()
    assert list(before) == renderer.prompt([user])
    assert whole[: len(before)] == list(before)
    assert renderer.parse(after).text.strip() == answer
    assert not any(renderer.tokenizer.is_control(token) for token in after)


def test_a_reply_that_was_begun_is_part_of_the_context(tmp_path: Path) -> None:
    encoder = ChatEncoder(renderer_of("chatml", tmp_path))
    begun = [{"role": "user", "content": "A river?"}, {"role": "assistant", "content": "It is"}]
    ((before, after),) = encoder.pairs([(write_messages(begun), " the Douro")])
    ((plain, whole),) = encoder.pairs([(write_messages(begun[:1]), "It is the Douro")])
    assert before[: len(plain)] == plain
    assert before + after == plain + whole
    assert encoder.prompts([write_messages(begun)]) == [before]


def test_a_format_without_system_messages_gets_the_text_in_the_first_message(tmp_path: Path) -> None:
    encoder = ChatEncoder(renderer_of("dolly", tmp_path))
    system = [{"role": "system", "content": "Choose.\n\n"}, {"role": "user", "content": "A or B?"}]
    joined = [{"role": "user", "content": "Choose.\n\nA or B?"}]
    assert encoder.prompts([write_messages(system)]) == encoder.prompts([write_messages(joined)])


def test_what_the_format_writes_after_an_answer_is_not_scored() -> None:
    question = (Message("user", "?"),)
    assert produced_text(build_format("dolly"), question, "yes").endswith("yes")
    assert produced_text(build_format("llama-2"), question, "yes").endswith("yes")
