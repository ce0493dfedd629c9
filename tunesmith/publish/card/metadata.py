"""The metadata of a card: the YAML at its beginning, and the files of results that the hub shows as badges."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from huggingface_hub import EvalResult, EvalResultEntry, ModelCardData, eval_result_entries_to_yaml

from tunesmith.publish.card.facts import BenchmarkScore, CardFacts
from tunesmith.publish.card.words import languages_of
from tunesmith.recipe.card import GateConfig
from tunesmith.recipe.licenses import find_license_conflict
from tunesmith.text.visible import visible


@dataclass(frozen=True, slots=True)
class BenchmarkData:
    """The data of a task on the hub.

    dataset: name of the repository.
    name: of the benchmark.
    config: of the data set; None where there is only one.
    """

    dataset: str
    name: str
    config: str | None = None


BENCHMARKS: Mapping[str, BenchmarkData] = {
    "openbookqa": BenchmarkData("allenai/openbookqa", "OpenBookQA", "main"),
    "arc_easy": BenchmarkData("allenai/ai2_arc", "ARC Easy", "ARC-Easy"),
    "arc_challenge": BenchmarkData("allenai/ai2_arc", "ARC Challenge", "ARC-Challenge"),
    "winogrande": BenchmarkData("allenai/winogrande", "WinoGrande", "winogrande_xl"),
    "hellaswag": BenchmarkData("Rowan/hellaswag", "HellaSwag"),
    "piqa": BenchmarkData("ybisk/piqa", "PIQA"),
    "boolq": BenchmarkData("google/boolq", "BoolQ"),
    "gsm8k": BenchmarkData("openai/gsm8k", "GSM8K", "main"),
    "truthfulqa_mc1": BenchmarkData("truthfulqa/truthful_qa", "TruthfulQA MC1", "multiple_choice"),
    "truthfulqa_mc2": BenchmarkData("truthfulqa/truthful_qa", "TruthfulQA MC2", "multiple_choice"),
    "ifeval": BenchmarkData("google/IFEval", "IFEval"),
}
"""Task of lm-evaluation-harness -> its data; for other tasks it is the name of the task."""
REGISTERED: Mapping[str, tuple[str, str]] = {
    "gsm8k": ("openai/gsm8k", "gsm8k"),
    "mmlu_pro": ("TIGER-Lab/MMLU-Pro", "mmlu_pro"),
    "gpqa_diamond_zeroshot": ("Idavidrein/gpqa", "diamond"),
    "gpqa_diamond_n_shot": ("Idavidrein/gpqa", "diamond"),
    "hle": ("cais/hle", "hle"),
}
"""Task -> (data set, task) of the benchmarks that the hub accepts in ``.eval_results``. Source: files of that name in
repositories of the hub, 2026."""
RESULTS = ".eval_results"


def published_license(facts: CardFacts) -> str | None:
    """The license that is written: the author's, unless it drops a condition of the data without a reason."""
    return None if find_unexplained_license(facts) else facts.card.license


def find_unexplained_license(facts: CardFacts) -> str | None:
    """What the license of a source asks for and the author's does not, without a reason; None if there is nothing."""
    card = facts.card
    if card.license is None or card.license_reason is not None:
        return None
    for source in facts.data.sources:
        if source.license and (conflict := find_license_conflict(card.license, source.license)) is not None:
            return f"the license of {source.name}: {conflict}, and card.license is {card.license}"
    return None


def header(facts: CardFacts) -> str:
    """The metadata as YAML."""
    card, license = facts.card, published_license(facts)
    kind = facts.training.method
    tags = [kind, "tunesmith", facts.recipe.text.format, *(["conversational"] if _converses(facts) else []), *card.tags]
    own = [score for score in facts.benchmarks if score.is_own]
    values: dict[str, Any] = dict(
        license=license,
        license_name=None if license is None else card.license_name,
        license_link=None if license is None else card.license_link,
        language=languages_of(facts.data.survey) or None,
        base_model=facts.model.base if facts.model.base_on_hub else None,
        datasets=[source.place for source in facts.data.sources if source.on_hub] or None,
        library_name="peft" if facts.model.is_adapter else "transformers",
        pipeline_tag=_pipeline(facts),
        tags=tags,
        model_name=facts.name if own else None,
        eval_results=[_eval_result(score) for score in own] or None,
        **_gate(card.gate),
        **_widget(facts),
    )
    # YAML folds some characters that break lines, such as U+0085, so that they would be read back as spaces.
    data = ModelCardData(**{name: _visible(value) for name, value in values.items()})
    return str(data.to_yaml())


def _visible(value: Any) -> Any:
    """The same with every text in it made visible; results of benchmarks have names of tasks only."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, dict):
        return {_visible(key): _visible(each) for key, each in value.items()}
    return [_visible(each) for each in value] if isinstance(value, list) else value


def _converses(facts: CardFacts) -> bool:
    return facts.prompt is not None and bool(facts.prompt.several_turns)


def _pipeline(facts: CardFacts) -> str | None:
    """The task on the hub; encoder-decoders have none any more that stock transformers serves."""
    if facts.model.kind == "reward":
        return "text-classification"
    return None if facts.model.is_encoder_decoder else "text-generation"


def _gate(gate: GateConfig | None) -> dict[str, Any]:
    if gate is None:
        return {}
    fields = {
        question: answer if isinstance(answer, str) else {"type": "select", "options": list(answer)}
        for question, answer in gate.fields.items()
    }
    values = {
        "extra_gated_heading": gate.heading,
        "extra_gated_prompt": gate.prompt,
        "extra_gated_button_content": gate.button,
        "extra_gated_fields": fields or None,
    }
    return {name: value for name, value in values.items() if value is not None}


def _widget(facts: CardFacts) -> dict[str, Any]:
    """The questions in the prompt format of the model."""
    return {} if facts.prompt is None else {"widget": [{"text": text} for text in facts.prompt.texts]}


def _eval_result(score: BenchmarkScore) -> EvalResult:
    known = BENCHMARKS.get(score.task, BenchmarkData(score.task, score.task))
    limited = f", first {score.items} items" if score.limited else ""
    return EvalResult(
        task_type="text-generation",
        task_name="Text Generation",
        dataset_type=known.dataset,
        dataset_name=f"{known.name} ({score.shots}-shot, {score.prompts} prompts{limited})",
        dataset_config=known.config,
        dataset_split=score.split,
        dataset_args={"num_few_shot": score.shots, "prompts": score.prompts},
        metric_type=score.metric.partition(",")[0],
        metric_name=f"{score.metric}, {score.items} items",
        metric_value=score.score,
    )


def result_files(facts: CardFacts) -> dict[str, str]:
    """Name -> content of the files of results of registered benchmarks; a part of the items is no result there."""
    found: dict[str, list[EvalResultEntry]] = {}
    for score in facts.benchmarks:
        if score.is_own and not score.limited and score.task in REGISTERED:
            dataset, task = REGISTERED[score.task]
            notes = f"{score.shots}-shot, {score.metric}, {score.prompts} prompts, {score.items} items of {score.split}"
            entry = EvalResultEntry(dataset, task, round(100 * score.score, 4), notes=f"{notes}, lm-evaluation-harness")
            found.setdefault(f"{RESULTS}/{score.task}.yaml", []).append(entry)
    return {name: _yaml(entries) for name, entries in found.items()}


def _yaml(entries: list[EvalResultEntry]) -> str:
    return yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False)


def unwritten(facts: CardFacts) -> Iterator[str]:
    """What the card leaves out and the author can change, one sentence each."""
    if (conflict := find_unexplained_license(facts)) is not None:
        yield f"{conflict}; the card has no license until card.license_reason says why, or card.license is another one"
    elif facts.card.license is None:
        yield "the card has no license: set card.license in the recipe"
    if facts.model.base is not None and not facts.model.base_on_hub:
        yield "the card names no base model, because model.path is no name of the hub"
    if facts.data.survey is None:
        yield "the training data are not there any more or have changed, so the card does not name their languages"
    yield from facts.dropped
