"""What is known of tasks beyond the files of lm-evaluation-harness: suites, metrics of a table, columns, packages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

DOLLY = ("openbookqa", "arc_easy", "winogrande", "hellaswag", "arc_challenge", "piqa", "boolq")
"""The columns of the table in the model card of dolly-v2, in its order."""
SUITES: Mapping[str, tuple[str, ...]] = {"dolly": DOLLY, "truthfulqa": ("truthfulqa_mc1", "truthfulqa_mc2")}
"""Name -> tasks. MMLU is a suite as well, of the files of its subjects."""
MMLU = "mmlu"

QUESTIONS = ("question", "choices", "answerKey")


@dataclass(frozen=True, slots=True)
class KnownTask:
    """A task whose data may be local files that are checked.

    file: its definition, relative to the tasks of lm-evaluation-harness.
    metric: the metric that its table shows: ``name`` or ``name,filter``.
    columns: the columns that its prompts and metrics need.
    packages: what it needs in addition, by the names to install.
    """

    file: str
    metric: str
    columns: tuple[str, ...]
    packages: tuple[str, ...] = ()


KNOWN_TASKS: Mapping[str, KnownTask] = {
    "openbookqa": KnownTask("openbookqa/openbookqa.yaml", "acc_norm", ("question_stem", "choices", "answerKey")),
    "arc_easy": KnownTask("arc/arc_easy.yaml", "acc_norm", QUESTIONS),
    "winogrande": KnownTask("winogrande/default.yaml", "acc", ("sentence", "option1", "option2", "answer")),
    "hellaswag": KnownTask(
        "hellaswag/hellaswag.yaml", "acc_norm", ("activity_label", "ctx_a", "ctx_b", "endings", "label")
    ),
    "arc_challenge": KnownTask("arc/arc_challenge.yaml", "acc_norm", QUESTIONS),
    "piqa": KnownTask("piqa/piqa.yaml", "acc_norm", ("goal", "sol1", "sol2", "label")),
    "boolq": KnownTask("super_glue/boolq/default.yaml", "acc", ("passage", "question", "label")),
    "gsm8k": KnownTask("gsm8k/gsm8k.yaml", "exact_match,strict-match", ("question", "answer")),
    "truthfulqa_mc1": KnownTask("truthfulqa/truthfulqa_mc1.yaml", "acc", ("question", "mc1_targets")),
    "truthfulqa_mc2": KnownTask("truthfulqa/truthfulqa_mc2.yaml", "acc", ("question", "mc2_targets")),
    "ifeval": KnownTask(
        "ifeval/ifeval.yaml",
        "prompt_level_strict_acc",
        ("key", "prompt", "instruction_id_list", "kwargs"),
        ("langdetect", "immutabledict", "nltk"),
    ),
}
SUBJECT = KnownTask("mmlu/default/{task}.yaml", "acc", ("question", "choices", "answer"))
"""A subject of MMLU; its task is named ``mmlu_SUBJECT``."""
METRICS = ("acc_norm", "acc", "exact_match")
"""The metric that is shown of any other task: the first of these that it has, or else its first metric."""


def known_task(name: str) -> KnownTask | None:
    """What is known of a task by its name; None for a task that only lm-evaluation-harness knows."""
    if name.startswith(f"{MMLU}_"):
        return KnownTask(SUBJECT.file.format(task=name), SUBJECT.metric, SUBJECT.columns)
    return KNOWN_TASKS.get(name)
