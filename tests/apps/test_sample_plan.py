"""From prompts to token ids and back to the outputs of a report: the model's own format, and that of the original."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.text.small_tokenizers import byte_level, prefixed, write_tokenizer
from tunesmith.apps.prompt_additions import PromptAddition
from tunesmith.apps.sample_plan import (
    EffectiveConfiguration,
    end_tokens,
    format_encoder,
    mode_encoder,
    plan_replies,
    read_effects,
    reply_output,
)
from tunesmith.apps.sample_prompts import SamplePrompt
from tunesmith.errors import UsageError
from tunesmith.files import write_json
from tunesmith.generate.engine import Engine, GeneratedReply
from tunesmith.generate.original_sampling import original_sampling
from tunesmith.generate.sampling_configurations import SamplingConfiguration, SamplingFile, open_sampling_file
from tunesmith.text.formats.registry import build_format
from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tree import Message

PLAIN = SamplingConfiguration("c")


def plain(text: str) -> SamplePrompt:
    return SamplePrompt((Message("user", text),), "p.txt:1")


def renderer(directory: Path, format: str = "oasst") -> Renderer:
    write_tokenizer(directory, byte_level(), eos="<|endoftext|>", pad="<|padding|>")
    prompt_format = build_format(format)
    return Renderer(prompt_format, Tokenizer.load(str(directory), prompt_format.controls))


def generated(own: Renderer, ids: Sequence[int]) -> GeneratedReply:
    """A reply as the engine returns it."""
    parsed = own.parse(ids)
    return GeneratedReply(parsed.text, tuple(ids), parsed.stopped)


def cleaned(text: str) -> str:
    """As old versions of transformers clean what they decode, which changes what the model wrote."""
    for before, after in ((" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't")):
        text = text.replace(before, after)
    for word in ("m", "s", "ve", "re"):
        text = text.replace(f" '{word}", f"'{word}")
    return text


def test_prompts_of_a_mode_have_the_ids_and_replies_the_texts_of_the_original(
    golden: Callable[[str], dict[str, Any]], real_data: Callable[[str], Path], tmp_path: Path
) -> None:
    format = build_format("oasst")
    own = Renderer(format, Tokenizer.load(str(real_data("tokenizers/pythia")), format.controls))
    engine = cast(Engine, SimpleNamespace(renderer=own, context=2048))
    cases = [case for case in golden("sampling_config")["cases"] if case["kind"] == "report"]
    for case in cases:
        given, args = case["input"], case["expected"]["report"]["args"]
        write_json(tmp_path / "mini.json", given["config"])
        configurations = read_effects(open_sampling_file(str(tmp_path / "mini.json")))
        prompts = list(map(plain, given["prompts"][: args["n"]]))
        encode = mode_encoder(own, args["mode"])
        plan = plan_replies(engine, encode, prompts, configurations, args["num_samples"], 0)
        assert len(plan.replies) == len(given["model_calls"]), case["id"]
        results = case["expected"]["report"]["prompts"]
        for (place, request), call in zip(plan.replies, given["model_calls"], strict=True):
            length = args["max_input_len"]  # with it the original cuts off the token of the assistant
            assert list(request.prompt[:length]) == call["input_ids"]
            effects = configurations[place.configuration]
            assert dict(effects.configuration.generate_args) == call["generate_args"]
            expected = results[place.prompt]["results"][place.configuration]["outputs"][place.sample]
            ids = call["appended_ids"]
            if args["skip_special_tokens"]:
                ids = [token for token in ids if not own.tokenizer.is_control(token)]
            assert cleaned(own.tokenizer.decode(ids, skip_controls=False)) == expected
            first_end = next((n + 1 for n, token in enumerate(ids) if token in own.stop_ids), len(ids))
            kept = ids[:first_end]  # the engine stops there
            raw = reply_output(own, generated(own, kept), raw=True)
            assert raw.output == own.tokenizer.decode(kept, skip_controls=False)


def test_text_becomes_a_control_token_in_a_mode_and_never_in_the_format_of_the_model(tmp_path: Path) -> None:
    own = renderer(tmp_path / "t")
    end = own.tokenizer.eos_id
    by_mode, by_format = mode_encoder(own, "v2_5"), format_encoder(own)
    assert by_mode(plain("Hi"), PLAIN) == by_format(plain("Hi"), PLAIN) == own.prompt([Message("user", "Hi")])
    hostile = plain("a<|endoftext|>b")
    assert by_mode(hostile, PLAIN).count(cast(int, end)) == 2
    assert by_format(hostile, PLAIN).count(cast(int, end)) == 1


def test_a_mode_adds_what_the_tokenizer_adds(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, prefixed(), bos="<s>", eos="</s>", unk="<unk>")
    own = Renderer(build_format("plain"), Tokenizer.load(str(tmp_path)))
    named = SamplingConfiguration("c", human_name="User", bot_name="Bot")
    assert mode_encoder(own, "legacy")(plain("Hi"), named)[0] == own.tokenizer.bos_id


def test_a_pre_text_is_the_system_message(tmp_path: Path) -> None:
    own = renderer(tmp_path / "t", "chatml")
    configuration = SamplingConfiguration("c", pre_text="Be brief.")
    messages = [Message("system", "Be brief."), Message("user", "Hi")]
    assert format_encoder(own)(plain("Hi"), configuration) == own.prompt(messages)


def test_a_pre_text_comes_before_a_conversation_with_tools(tmp_path: Path) -> None:
    own, configuration = renderer(tmp_path / "t", "chatml"), SamplingConfiguration("c", pre_text="Be brief.")
    tools = json.dumps([{"type": "function", "function": {"name": "weather", "parameters": {}}}])
    asked = SamplePrompt((Message("user", "Sun?", tools=tools),), "p.jsonl:1")
    conversation = PromptAddition.of(configuration, None).messages(asked.messages)
    assert [(message.role, message.tools) for message in conversation] == [("system", tools), ("user", "")]
    engine = cast(Engine, SimpleNamespace(renderer=own, context=2048))
    (refused,) = plan(engine, [asked], configuration).refused
    assert refused.reason.startswith("definitions of tools, but format 'chatml' has no place for that")


def plan(engine: Engine, prompts: Sequence[SamplePrompt], *configurations: SamplingConfiguration) -> Any:
    effects = [EffectiveConfiguration(each, original_sampling(each.generate_args)) for each in configurations]
    return plan_replies(engine, format_encoder(engine.renderer), prompts, effects, 2, 0)


def test_what_does_not_fit_or_has_no_place_in_the_format_is_refused_for_all_configurations(tmp_path: Path) -> None:
    own = renderer(tmp_path / "t")
    long = "word " * 20
    engine = cast(Engine, SimpleNamespace(renderer=own, context=len(own.prompt([Message("user", long)])) + 2))
    system = SamplePrompt((Message("system", "S"), Message("user", "Hi")), "p.jsonl:2")
    few, many = (SamplingConfiguration(name, {"max_new_tokens": n}) for name, n in (("few", 1), ("many", 900)))
    assert plan(engine, [plain(long), system], few).refused == ()
    found = plan(engine, [plain(long), system], few, many)
    assert [each.place for each in found.refused] == ["p.txt:1"]
    assert found.prompts == (system,)
    assert [tuple(place) for place, _ in found.replies] == [(0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1)]
    with_text = SamplingConfiguration("text", {"max_new_tokens": 1}, pre_text="P")
    engine = cast(Engine, SimpleNamespace(renderer=own, context=2048))
    (refused,) = plan(engine, [system], with_text).refused
    assert refused.reason == "a system message, and configuration 'text' has one too"


def test_an_argument_that_is_not_supported_names_its_configuration() -> None:
    file = SamplingFile("mine-x", (SamplingConfiguration("x", {"temprature": 1}),), "mine.json")
    expected = r"mine\.json, configuration x: there is no setting 'temprature'; did you mean temperature\?"
    with pytest.raises(UsageError, match=expected):
        read_effects(file)


def test_control_tokens_inside_of_a_reply_are_written_out(tmp_path: Path) -> None:
    own = renderer(tmp_path / "t")
    text, role, end = (
        own.tokenizer.encode("Hello"),
        own.tokenizer.control("<|assistant|>"),
        own.tokenizer.control("eos"),
    )
    ended = reply_output(own, generated(own, [*text, role, *text, end]), raw=False)
    assert (ended.output, ended.text) == ("Hello<|assistant|>Hello<|endoftext|>", "Hello<|assistant|>Hello")
    cut = reply_output(own, generated(own, text), raw=False)
    assert (cut.output, cut.end, cut.tokens) == ("Hello", 0, len(text))
    assert end_tokens(own) == ["<|endoftext|>", "<|prompter|>"]


def test_the_cleaning_of_a_format_is_part_of_an_output_but_not_of_one_in_a_mode(tmp_path: Path) -> None:
    own = renderer(tmp_path / "t", "dolly")
    ids = [*own.tokenizer.encode("Hello\n\n"), own.tokenizer.control("### End")]
    assert reply_output(own, generated(own, ids), raw=False).output == "Hello### End"
    assert reply_output(own, generated(own, ids), raw=True).output == "Hello\n\n### End"
