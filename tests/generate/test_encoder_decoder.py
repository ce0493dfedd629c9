"""Encoder-decoders: our loop against the one of transformers, one encoder pass a prompt, replies with line breaks."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForSeq2SeqLM,
    GenerationConfig,
    MT5Config,
    PretrainedConfig,
    PreTrainedModel,
    T5Config,
    UMT5Config,
)

from tests.generate.scheduling import generate
from tests.text.small_tokenizers import byte_level, t5_like, write_tokenizer
from tunesmith.errors import DataError
from tunesmith.generate.encoder_decoder import EncoderDecoderState
from tunesmith.generate.engine import Engine, ReplyChunk
from tunesmith.generate.requests import StoppingCriteria
from tunesmith.generate.running_rows import RunningRows, StaticRows
from tunesmith.generate.sampling import SamplingParameters
from tunesmith.text.formats.registry import build_format
from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tree import Message

VOCABULARY = 61  # of 64 rows
STOPS = (1, 4, 7, 11, 15, 18, 29, 40)
GREEDY = SamplingParameters(do_sample=False, max_new_tokens=24)
DRAWN = SamplingParameters(temperature=0.9, top_k=40, max_new_tokens=24)
ASKED = ["the cat", "at the mat", "What is the name of the river?", "a\nb\tc", "Hi " * 30]


KINDS: dict[str, type[PretrainedConfig]] = {"tied": T5Config, "untied": T5Config, "mt5": MT5Config, "umt5": UMT5Config}


def random_t5(kind: str = "untied", rows: int = 64) -> PreTrainedModel:
    """A small model whose replies differ. tied: the first T5, its output scaled. untied: T5 1.1."""
    torch.manual_seed(3)
    config = KINDS[kind](
        vocab_size=rows, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4,
        relative_attention_num_buckets=8, relative_attention_max_distance=20, dropout_rate=0.0,
        decoder_start_token_id=0, feed_forward_proj="relu" if kind == "tied" else "gated-gelu",
        tie_word_embeddings=kind == "tied",
    )  # fmt: skip
    model: PreTrainedModel = AutoModelForSeq2SeqLM.from_config(config)
    if kind != "tied":
        model.lm_head.weight = torch.nn.Parameter(0.3 * torch.randn(rows, 32))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "layer_norm" not in name:
                weight.mul_(1.8)
    return model.eval()


@pytest.fixture(scope="module", params=KINDS)
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    return random_t5(request.param)


def _prompts(count: int, longest: int = 30) -> list[list[int]]:
    generator = random.Random(count)
    return [[generator.randrange(VOCABULARY) for _ in range(generator.randint(1, longest))] for _ in range(count)]


def _rows(model: PreTrainedModel, *, reuse: bool = False) -> RunningRows:
    return StaticRows(lambda: EncoderDecoderState(model), model.device, reuse=reuse)


def _replies(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    sampling: SamplingParameters,
    samples: Sequence[int] | None = None,
) -> list[list[int]]:
    stopping = StoppingCriteria(STOPS, VOCABULARY, 2**31)
    return generate(_rows(model), prompts, sampling, stopping, samples=samples)


def _stock(model: PreTrainedModel, prompt: Sequence[int], sampling: SamplingParameters) -> list[int]:
    configuration = GenerationConfig(
        do_sample=False,
        max_new_tokens=sampling.max_new_tokens,
        min_new_tokens=sampling.min_new_tokens or None,
        repetition_penalty=sampling.repetition_penalty,
        eos_token_id=list(STOPS),
        pad_token_id=0,
        decoder_start_token_id=0,
        suppress_tokens=list(range(VOCABULARY, model.config.vocab_size)),
    )
    ids = torch.tensor([list(prompt)])
    output = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=configuration)
    found: list[int] = output[0, 1:].tolist()
    return found


@pytest.mark.parametrize("penalty", [1.0, 1.2])
@pytest.mark.parametrize("minimum", [0, 6])
def test_greedy_replies_equal_those_of_stock_generate(model: PreTrainedModel, penalty: float, minimum: int) -> None:
    sampling = SamplingParameters(
        do_sample=False, max_new_tokens=24, repetition_penalty=penalty, min_new_tokens=minimum
    )
    prompts = _prompts(6)
    found = [_replies(model, [prompt], sampling)[0] for prompt in prompts]
    assert found == [_stock(model, prompt, sampling) for prompt in prompts]
    assert len({tuple(reply) for reply in found}) > 1


def test_a_batch_gives_what_each_prompt_gives_alone_although_finished_rows_leave(model: PreTrainedModel) -> None:
    prompts = _prompts(9)
    for sampling in (GREEDY, DRAWN):
        together = _replies(model, prompts, sampling)
        alone = [_replies(model, [prompt], sampling, [index])[0] for index, prompt in enumerate(prompts)]
        assert together == alone
    assert len({len(reply) for reply in together}) > 2, "the replies should end at different steps"


def test_samples_of_one_prompt_share_a_pass_of_the_encoder(model: PreTrainedModel) -> None:
    sizes: list[int] = []
    hook = model.get_encoder().register_forward_pre_hook(
        lambda module, arguments, options: sizes.append(len(options["input_ids"])), with_kwargs=True
    )
    one, other = _prompts(2)
    prompts, varied = (
        [one, other, one, one, other],
        SamplingParameters(temperature=3.0, min_new_tokens=8, max_new_tokens=24),
    )
    together = _replies(model, prompts, varied)
    hook.remove()
    assert sizes == [2]
    assert together == [_replies(model, [prompt], varied, [number])[0] for number, prompt in enumerate(prompts)]
    assert len(set(map(tuple, together))) == 5


def test_a_prompt_that_is_held_already_is_not_encoded_again(model: PreTrainedModel) -> None:
    passes: list[int] = []
    hook = model.get_encoder().register_forward_hook(lambda *_: passes.append(1))
    state, (one, other) = EncoderDecoderState(model), _prompts(2)
    logits = [state.prefill_cached(prompt) for prompt in (one, one, other, one)]
    hook.remove()
    assert len(passes) == 3
    assert torch.equal(logits[0], logits[1])
    assert torch.equal(logits[0], logits[3])


class _Interrupting(torch.nn.Module):
    """Replaces one layer and is interrupted once, in the middle of a forward pass."""

    def __init__(self, layer: torch.nn.Module, at: int) -> None:
        super().__init__()
        self.layer, self.left = layer, at

    def forward(self, *arguments: object, **options: object) -> object:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return self.layer(*arguments, **options)


@pytest.mark.parametrize(("part", "at"), [("encoder", 1), ("decoder", 1), ("decoder", 4)])
def test_an_interrupted_reply_leaves_a_usable_cache(part: str, at: int) -> None:
    model = random_t5()
    one, other = _prompts(2)
    longer = SamplingParameters(do_sample=False, min_new_tokens=8, max_new_tokens=16)
    expected = [_replies(model, [prompt], longer)[0] for prompt in (one, other)]
    rows, blocks = _rows(model, reuse=True), getattr(model, part).block
    blocks[1] = _Interrupting(blocks[1], at)

    def reply(prompt: Sequence[int]) -> list[int]:
        return generate(rows, [prompt], longer, StoppingCriteria(STOPS, VOCABULARY, 99))[0]

    with pytest.raises(KeyboardInterrupt):
        reply(one)
    assert [reply(one), reply(other)] == expected


@pytest.fixture(scope="module")
def renderers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Renderer]:
    root, end = tmp_path_factory.mktemp("tokenizers"), "<|endoftext|>"
    paths = {
        "t5_like": write_tokenizer(root / "t5_like", t5_like(), eos="</s>", unk="<unk>", pad="<pad>"),
        "byte_level": write_tokenizer(root / "bytes", byte_level(), bos=end, eos=end),
    }
    return {kind: Renderer(build_format("t5-dolly"), Tokenizer.load(str(path))) for kind, path in paths.items()}


@pytest.fixture(scope="module", params=["t5_like", "byte_level"])
def engine(request: pytest.FixtureRequest, renderers: dict[str, Renderer]) -> Engine:
    renderer = renderers[request.param]
    return Engine(random_t5(rows=renderer.tokenizer.size), renderer)


def _asked(text: str) -> list[Message]:
    return [Message("user", text)]


def _joined(chunks: Sequence[ReplyChunk]) -> str:
    return "".join(chunk.text for chunk in chunks)


@pytest.mark.parametrize("sampling", [GREEDY, DRAWN])
def test_a_stream_gives_what_complete_returns(engine: Engine, sampling: SamplingParameters) -> None:
    prompts = [_asked(text) for text in ASKED]
    replies = engine.complete(prompts, sampling, seed=3, batch_size=2)
    assert replies == engine.complete(prompts, sampling, seed=3, batch_size=8)
    state = engine.new_state()
    for index, reply in enumerate(replies):
        chunks = list(engine.stream(prompts[index], sampling, 3, sample=index, state=state))
        assert tuple(token for chunk in chunks for token in chunk.ids) == reply.ids
        assert (chunks[-1].finish_reason == "stop") == reply.stopped
        assert chunks[-1].finish_reason in ("stop", "length")
        assert _joined(chunks) == reply.text


class _Scripted(torch.nn.Module):
    """Replaces the head: the next token is always that of the script."""

    def __init__(self, script: Sequence[int], rows: int) -> None:
        super().__init__()
        self.script, self.rows, self.place = list(script), rows, 0

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(*states.shape[:-1], self.rows)
        logits[..., self.script[self.place % len(self.script)]] = 9.0
        self.place += 1
        return logits


def scripted(renderer: Renderer, text: str) -> tuple[Engine, list[int]]:
    """An engine whose model writes what the format would have it write for ``text``."""
    model = random_t5(rows=renderer.tokenizer.size)
    script = [*renderer.tokenizer.encode(renderer.format.codec.encode(text)), *renderer.stop_ids]
    engine = Engine(model, renderer)  # which tests the model
    model.lm_head = _Scripted(script, renderer.tokenizer.size)
    return engine, script


@pytest.mark.parametrize("kind", ["t5_like", "byte_level"])
@pytest.mark.parametrize("text", ["a\nb", "one:\n\tthe cat\n\tthe mat\nend", "\na b", "a\n\nb\n", "b at\n"])
def test_line_breaks_arrive_as_such_and_never_as_marks(renderers: dict[str, Renderer], kind: str, text: str) -> None:
    renderer = renderers[kind]
    engine, script = scripted(renderer, text)
    if kind == "t5_like":
        assert 2 in script, "the unknown token has to be written in place of the bracket of a mark"
    limit = SamplingParameters(do_sample=False, max_new_tokens=len(script))
    chunks = list(engine.stream(_asked("Hi"), limit, 0))
    assert _joined(chunks) == renderer.parse(script).text
    assert not any(set("_<>") & set(chunk.text) for chunk in chunks)
    assert renderer.format.codec.encode(_joined(chunks)) == renderer.format.codec.encode(text)
    (reply,) = engine.complete([_asked("Hi")], limit, 0)
    assert (reply.text, reply.stopped, reply.ids) == (_joined(chunks), True, tuple(script))


def test_an_input_longer_than_it_may_be_keeps_its_beginning_and_its_end_token(renderers: dict[str, Renderer]) -> None:
    renderer = renderers["t5_like"]
    whole = renderer.prompt(_asked("the cat sat at the mat"))
    model = random_t5(rows=renderer.tokenizer.size)
    short = Engine(model, renderer, context=8)
    assert list(short.prompt(_asked("the cat sat at the mat"), GREEDY).ids) == [*whole[:7], whole[-1]]
    assert list(Engine(model, renderer).prompt(_asked("the cat " * 400), GREEDY).ids) == renderer.prompt(
        _asked("the cat " * 400)
    )
    (reply,) = short.complete(
        [_asked("the cat")], SamplingParameters(do_sample=False, min_new_tokens=20, max_new_tokens=30), 0
    )
    assert reply.tokens >= 20, "the limit is that of the input"


def test_formats_and_models_of_the_other_kind_are_refused(
    renderers: dict[str, Renderer], random_model: Callable[..., PreTrainedModel], tmp_path: Path
) -> None:
    renderer = renderers["t5_like"]
    with pytest.raises(DataError, match="a causal model, but prompt format 't5-dolly' is for an encoder-decoder"):
        Engine(random_model("llama", rows=renderer.tokenizer.size), renderer)
    plain = Renderer(build_format("plain"), renderer.tokenizer)
    with pytest.raises(DataError, match="an encoder-decoder, but prompt format 'plain' is for a causal model"):
        Engine(random_t5(rows=renderer.tokenizer.size), plain)
