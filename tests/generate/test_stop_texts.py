"""A reply with stop texts is the beginning of the full reply, and ends as soon as one of them is complete."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedModel

from tests.text.small_tokenizers import byte_level, prefixed, write_tokenizer
from tunesmith.generate.engine import Engine
from tunesmith.generate.requests import ReplyRequest
from tunesmith.generate.sampling import SamplingParameters
from tunesmith.generate.stop_texts import StopSearch, cut_at_stop
from tunesmith.text.formats.registry import build_format
from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.text.tokens.render import Renderer

FORMATS = ("plain", "chatml", "vicuna", "llama-2", "dolly")
SAMPLING = SamplingParameters(max_new_tokens=24)
LATEST = 8
"""Bytes of unfinished characters wait for so many tokens."""


@pytest.fixture(scope="module")
def renderers(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Renderer]:
    """(format, tokenizer) -> renderer."""
    root, found = tmp_path_factory.mktemp("tokenizers"), {}
    paths = {
        "byte_level": write_tokenizer(root / "a", byte_level(), bos="<|endoftext|>", eos="<|endoftext|>"),
        "prefixed": write_tokenizer(root / "b", prefixed(), bos="<s>", eos="</s>", unk="<unk>"),
    }
    for name in FORMATS:
        for kind, path in paths.items():
            format = build_format(name)
            found[name, kind] = Renderer(format, Tokenizer.load(str(path), format.controls))
    return found


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(FORMATS),
    st.sampled_from(["byte_level", "prefixed"]),
    st.text("ab \n\té你.:", max_size=14),
    st.lists(st.text("ab \n\té你.:", min_size=1, max_size=4), min_size=1, max_size=3),
)
def test_the_cut_text_is_that_of_the_full_reply(
    renderers: dict[tuple[str, str], Renderer], name: str, kind: str, text: str, stop: list[str]
) -> None:
    renderer = renderers[name, kind]
    ids = renderer.tokenizer.encode(text, continuing=renderer.format.reply_continues_text)
    search = StopSearch(renderer, stop)
    end = next((place for place, token in enumerate(ids, 1) if search.add(token)), None)
    expected, has_stop = cut_at_stop(renderer.parse(ids).text, stop)
    assert cut_at_stop(renderer.parse(ids[:end]).text, stop) == (expected, has_stop)
    if end is not None:
        assert has_stop
        earliest = next(n for n in range(len(ids) + 1) if cut_at_stop(renderer.parse(ids[:n]).text, stop)[1])
        assert earliest <= end <= earliest + LATEST


def test_a_reply_ends_at_the_token_that_completes_a_stop_text(
    random_model: Callable[..., PreTrainedModel], renderers: dict[tuple[str, str], Renderer]
) -> None:
    engine = Engine(random_model("llama", rows=576, context=160), renderers["plain", "byte_level"])
    prompts = [tuple(engine.renderer.tokenizer.encode(text)) for text in ("Hi", "A cat sat", "Write.", "The dog")]
    plain = [ReplyRequest(prompt, SAMPLING, 3, index) for index, prompt in enumerate(prompts)]
    full = dict(engine.replies(plain, 4))
    stops = [(full[index].text[5:8], "~never~") for index in range(len(plain))]
    asked = [
        ReplyRequest(each.prompt, each.sampling, each.seed, each.sample, stop=stop)
        for each, stop in zip(plain, stops, strict=True)
    ]
    for batch_size in (1, 3):
        for index, reply in engine.replies(asked, batch_size):
            whole = full[index]
            assert reply.ids == whole.ids[: len(reply.ids)]
            assert len(reply.ids) < len(whole.ids)
            assert (reply.text, reply.finish_reason) == (cut_at_stop(whole.text, stops[index])[0], "stop")
            assert not reply.stopped


def test_of_several_stop_texts_the_one_that_is_complete_first_counts() -> None:
    assert cut_at_stop("a::", (":", "a::")) == ("a", True)
    assert cut_at_stop("a::", ("::", "a::")) == ("", True)
    assert cut_at_stop("one two three", ("three", "two")) == ("one ", True)
    assert cut_at_stop("one two", ("four",)) == ("one two", False)
