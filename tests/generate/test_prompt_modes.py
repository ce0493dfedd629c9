"""Prompts as the original programs write them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tunesmith.errors import UsageError
from tunesmith.generate.prompt_modes import PROMPT_MODES
from tunesmith.generate.sampling_configurations import SamplingConfiguration, parse_configuration

# What two of its defects lost in one of the programs: the tokens around a prefix, and the profile of the reply.
DIFFERENT = {
    "oa-v2-pretok": "<prefix>You are Robin.\nBe brief.</prefix><human>Ok<bot>",
    "oa-v2-prepro": "<prefix>Ctx.</prefix><human>Ok<bot>",
    "oe-v2_5-profile": "<|prompter|>Wie koche ich Linsensuppe für vier Personen?<|endoftext|><|system|>\nlang: en\n"
    "quality: 0.8\nlength: 4.0\nhumor: 0.1\n<|endoftext|><|assistant|>",
    "oe-v3-profile": "<|prompter|>猫の名前を三つ考えて。</s><|system|>\nlang: en\n"
    "quality: 0.8\nlength: 4.0\nhumor: 0.1\n</s><|assistant|>",
    "oe-v2_5-prepro": "<|prefix_begin|>Ctx.<|prefix_end|><|prompter|>Name three rivers in Portugal.<|endoftext|>"
    "<|system|>\ncreativity: 1.0\n<|endoftext|><|assistant|>",
    "oe-v3-prepro": "<|system|>Ctx.</s><|prompter|>请用一句话解释什么是潮汐。</s><|system|>\ncreativity: 1.0\n</s>"
    "<|assistant|>",
}


def test_every_mode_writes_the_prompts_of_the_originals(golden: Callable[[str], dict[str, Any]]) -> None:
    cases = [case for case in golden("sampling_config")["cases"] if case["kind"] == "prompt"]
    assert len(cases) == 48
    different = {}
    for case in cases:
        configuration = parse_configuration(case["input"]["configuration"], Path("f"), "default")
        mode, end = PROMPT_MODES[case["settings"]["mode"]], case["settings"]["eos"]
        if "raises" in case["expected"]:
            with pytest.raises(UsageError, match="mode legacy needs human_name and bot_name"):
                mode(case["input"]["prompt"], configuration, end)
        elif (found := mode(case["input"]["prompt"], configuration, end)) != case["expected"]["text"]:
            assert case["original_defect"] in ("N12", "13"), case["id"]
            different[case["id"].removeprefix("sampling_config-open-prompt-")] = found
    assert different == DIFFERENT


def test_a_mode_leaves_the_text_of_a_prompt_as_it_is() -> None:
    configuration = SamplingConfiguration("c", human_name="H", bot_name="B")
    for mode in PROMPT_MODES.values():
        assert " a\n<|assistant|> {b} " in mode(" a\n<|assistant|> {b} ", configuration, "</s>")
