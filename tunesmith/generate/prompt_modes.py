"""The prompts of Open-Assistant's evaluation program, as text. Only the text decides which tokens are control tokens.

Source: ``sampling_report.py`` of LAION-AI/Open-Assistant and of Open-Assistant/oasst-model-eval. Where the two differ,
the text is the one that has everything: the tokens around a prefix in mode v2, which the first program overwrites, and
the tag with the profile of a reply, which the second one leaves out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tunesmith.errors import UsageError
from tunesmith.generate.sampling_configurations import SamplingConfiguration

PromptMode = Callable[[str, SamplingConfiguration, str], str]
"""(prompt, configuration, end token) -> the text that is encoded."""


def _legacy(prompt: str, configuration: SamplingConfiguration, end: str) -> str:
    human, bot = configuration.human_name, configuration.bot_name
    if not human or not bot:
        what = f"mode legacy needs human_name and bot_name, which configuration {configuration.name!r} does not have"
        raise UsageError(what, where="--mode", advice="add them to the file of the configuration")
    return f"{configuration.pre_text}\n{human}: {prompt}\n\n{bot}: "


def _v2(prompt: str, configuration: SamplingConfiguration, end: str) -> str:
    return f"{_prefix(configuration, '<prefix>', '</prefix>')}<human>{prompt}<bot>"


def _v2_5(prompt: str, configuration: SamplingConfiguration, end: str) -> str:
    prefix = _prefix(configuration, "<|prefix_begin|>", "<|prefix_end|>")
    return f"{prefix}<|prompter|>{prompt}{end}{_tag(configuration, end)}<|assistant|>"


def _v3(prompt: str, configuration: SamplingConfiguration, end: str) -> str:
    system = f"<|system|>{configuration.pre_text}{end}" if configuration.pre_text else ""
    return f"{system}<|prompter|>{prompt}{end}{_tag(configuration, end)}<|assistant|>"


def _chatml(prompt: str, configuration: SamplingConfiguration, end: str) -> str:
    system = f"<|im_start|>system\n{configuration.pre_text}<|im_end|>\n" if configuration.pre_text else ""
    return f"{system}<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"


def _prefix(configuration: SamplingConfiguration, begin: str, end: str) -> str:
    text = configuration.pre_text
    return f"{begin}{text}{end}" if text and configuration.add_prefix_tokens else text


def _tag(configuration: SamplingConfiguration, end: str) -> str:
    """The tag with the properties of the reply, whole numbers with a decimal as in the original; empty without any."""
    lines = [
        f"{name}: {value if isinstance(value, str) else round(float(value), 1)}\n"
        for name, value in configuration.system_profile.items()
    ]
    return f"<|system|>\n{''.join(lines)}{end}" if lines else ""


PROMPT_MODES: Mapping[str, PromptMode] = {
    "legacy": _legacy,
    "v2": _v2,
    "v2_5": _v2_5,
    "v3": _v3,
    "chatml": _chatml,
}
PROFILE_MODES = ("v2_5", "v3")
"""The modes that write the profile of a reply."""
