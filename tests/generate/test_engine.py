"""Streams, batches and single replies are one and the same; long conversations lose their beginning, not their end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from tests.text.small_tokenizers import byte_level, prefixed, write_tokenizer
from tunesmith.draws import reply_number
from tunesmith.errors import DataError
from tunesmith.generate.engine import Engine, ReplyChunk
from tunesmith.generate.requests import ReplyRequest
from tunesmith.generate.sampling import SamplingParameters
from tunesmith.generate.slot_rows import PROMPT_BLOCK
from tunesmith.text.formats.registry import build_format
from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tree import Message

CONTEXT = 160
FORMATS = ("oasst", "tulu", "chatml", "plain", "alpaca", "dolly")
QUESTIONS = ["Hi", "What is the name of the river?", "A cat\n\tsat é 你好", "Write.", "The dog sat by the door. " * 3]
DRAWN = SamplingParameters(temperature=0.9, top_k=80, max_new_tokens=24)
GREEDY = SamplingParameters(do_sample=False, max_new_tokens=24)


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("tokenizers")
    return {
        "byte_level": write_tokenizer(root / "a", byte_level(), bos="<|endoftext|>", eos="<|endoftext|>"),
        "prefixed": write_tokenizer(root / "b", prefixed(), bos="<s>", eos="</s>", unk="<unk>"),
    }


@pytest.fixture(scope="module")
def engine(random_model: Callable[..., PreTrainedModel], tokenizers: dict[str, Path]) -> Callable[..., Engine]:
    """engine("oasst", "prefixed") -> an engine whose model ends some of its replies."""
    models = {family: random_model(family, rows=576, context=CONTEXT) for family in ("llama", "gpt_neox")}

    def build(name: str, tokenizer: str = "byte_level", family: str = "llama") -> Engine:
        format = build_format(name)
        return Engine(models[family], Renderer(format, Tokenizer.load(str(tokenizers[tokenizer]), format.controls)))

    return build


def _asked(*texts: str) -> list[Message]:
    return [Message("assistant" if index % 2 else "user", text) for index, text in enumerate(texts)]


def _joined(chunks: Sequence[ReplyChunk]) -> str:
    return "".join(chunk.text for chunk in chunks)


@pytest.mark.parametrize("tokenizer", ["byte_level", "prefixed"])
@pytest.mark.parametrize("name", FORMATS)
def test_a_stream_gives_what_complete_returns(engine: Callable[..., Engine], name: str, tokenizer: str) -> None:
    engine_ = engine(name, tokenizer)
    prompts = [_asked(question) for question in QUESTIONS]
    for sampling in (GREEDY, DRAWN):
        for index, reply in enumerate(engine_.complete(prompts, sampling, seed=3, batch_size=2)):
            chunks = list(engine_.stream(prompts[index], sampling, 3, sample=index))
            ids = tuple(token for chunk in chunks for token in chunk.ids)
            assert ids == reply.ids
            assert [chunk.finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
            assert (chunks[-1].finish_reason == "stop") == reply.stopped
            names_controls = name == "dolly" and any(map(engine_.renderer.tokenizer.is_control, ids[:-1]))
            assert names_controls or _joined(chunks) == reply.text


def test_replies_end_by_themselves_and_without_their_stop_token(engine: Callable[..., Engine]) -> None:
    chat = engine("oasst")
    replies = chat.complete(
        [_asked(str(number)) for number in range(40)], SamplingParameters(max_new_tokens=60), seed=1
    )
    stopped = [reply for reply in replies if reply.stopped]
    assert stopped
    for reply in stopped:
        assert reply.ids[-1] in chat.renderer.stop_ids
        assert not chat.renderer.stop_ids & set(reply.ids[:-1])
        assert reply.text == chat.renderer.parse(reply.ids[:-1]).text


@pytest.mark.parametrize("family", ["llama", "gpt_neox"])
@pytest.mark.parametrize("sampling", [GREEDY, DRAWN])
def test_the_size_of_batches_changes_nothing(
    engine: Callable[..., Engine], family: str, sampling: SamplingParameters
) -> None:
    chat = engine("chatml", family=family)
    prompts = [_asked(question) for question in QUESTIONS]
    alone, pairs, together = (chat.complete(prompts, sampling, 7, batch_size=size) for size in (1, 2, 8))
    assert alone == pairs == together
    assert len({reply.text for reply in alone}) > 1


def test_nothing_to_do_is_nothing_done(engine: Callable[..., Engine]) -> None:
    assert engine("oasst").complete([], GREEDY, 0) == []


def test_a_cache_kept_through_a_conversation_changes_nothing_but_the_work(engine: Callable[..., Engine]) -> None:
    chat = engine("oasst")
    widths: list[int] = []
    hook = chat.model.register_forward_pre_hook(
        lambda model, arguments, options: widths.append(options["input_ids"].shape[1]), with_kwargs=True
    )
    state = chat.new_state()
    said: list[Message] = []
    read_before = 0
    for question in ("Hello!", "And the river?", "Be brief."):
        said.append(Message("user", question))
        fresh = _joined(list(chat.stream(said, GREEDY, 0)))
        widths.clear()
        assert _joined(list(chat.stream(said, GREEDY, 0, state=state))) == fresh
        prompt = len(chat.renderer.prompt(said))
        assert widths[0] < prompt - read_before + PROMPT_BLOCK
        read_before = prompt
        said.append(Message("assistant", fresh))
    hook.remove()


def _conversation(turns: int) -> list[Message]:
    said = [message for turn in range(turns) for message in _asked(f"question {turn}", f"answer {turn}")]
    return [Message("system", "Be brief."), *said[:-1]]


def test_a_long_conversation_loses_its_oldest_turns_and_keeps_its_system_message(engine: Callable[..., Engine]) -> None:
    chat, messages = engine("oasst"), _conversation(12)
    prompt = chat.prompt(messages, GREEDY)
    assert prompt.dropped > 0
    assert prompt.dropped % 2 == 0
    assert prompt.messages == (messages[0], *messages[1 + prompt.dropped :])
    assert len(prompt.ids) + GREEDY.max_new_tokens <= CONTEXT
    longer = chat.renderer.prompt((messages[0], *messages[prompt.dropped - 1 :]))
    assert len(longer) + GREEDY.max_new_tokens > CONTEXT, "no more was dropped than had to be"
    (reply,) = chat.complete([messages], GREEDY, 0)
    assert reply.dropped == prompt.dropped
    assert chat.prompt(_conversation(2), GREEDY).dropped == 0


def test_a_message_that_fills_the_context_is_refused_before_anything_is_generated(
    engine: Callable[..., Engine],
) -> None:
    chat = engine("oasst")
    long = _asked("mat " * CONTEXT)
    for act in (lambda: chat.complete([_asked("Hi"), long], GREEDY, 0), lambda: next(chat.stream(long, GREEDY, 0))):
        with pytest.raises(DataError, match=f"{CONTEXT} in all; shorten it"):
            act()


def test_a_reply_is_cut_where_the_context_ends_and_says_so(engine: Callable[..., Engine]) -> None:
    chat = engine("plain")
    question = _asked("mat " * 60)
    left = CONTEXT - len(chat.renderer.prompt(question))
    assert 0 < left < 150
    endless = SamplingParameters(do_sample=False, max_new_tokens=400, min_new_tokens=400)
    chunks = list(chat.stream(question, endless, 0))
    assert chunks[-1].finish_reason == "context"
    assert sum(len(chunk.ids) for chunk in chunks) == left
    assert list(chat.stream(question, GREEDY, 0))[-1].finish_reason in ("length", "stop")


def test_a_tokenizer_with_more_ids_than_the_model_has_rows_is_refused(
    random_model: Callable[..., PreTrainedModel], tokenizers: dict[str, Path]
) -> None:
    format = build_format("oasst")
    renderer = Renderer(format, Tokenizer.load(str(tokenizers["byte_level"]), format.controls))
    with pytest.raises(DataError, match="the model has 64"):
        Engine(random_model("llama", rows=64), renderer)


def test_dropout_is_not_left_on(engine: Callable[..., Engine]) -> None:
    chat = engine("plain")
    chat.model.train()
    with pytest.raises(AssertionError, match="eval"):
        chat.complete([_asked("Hi")], GREEDY, 0)
    chat.model.eval()
    assert torch.is_grad_enabled()


def test_requests_with_different_sampling_give_the_replies_that_each_gives_alone(
    engine: Callable[..., Engine],
) -> None:
    model = engine("oasst")
    greedy = SamplingParameters(do_sample=False, max_new_tokens=9)
    warm = SamplingParameters(temperature=1.5, top_p=0.9, max_new_tokens=12)
    prompts = [tuple(model.renderer.prompt(_asked(text))) for text in ("one", "two of them", "three")]
    requests = [
        ReplyRequest(prompt, sampling, 3, reply_number(prompt, name, sample))
        for prompt in prompts
        for name, sampling in (("greedy", greedy), ("warm", warm))
        for sample in range(2)
    ]
    together = dict(model.replies(requests, batch_size=5))
    alone = {index: dict(model.replies([request]))[0] for index, request in enumerate(requests)}
    assert together == alone
    assert together[0] == together[1], "a greedy reply does not depend on the sample"
    assert len({together[index].ids for index in (2, 3, 6, 7)}) > 2
