"""What is known about a finished run, as plain values; every statement of a card is made of these and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tunesmith.publish.card.data_survey import DataSurvey
from tunesmith.recipe.schema import CardConfig, Recipe
from tunesmith.report.sampling_summary import ConfigurationSummary


@dataclass(frozen=True, slots=True)
class CardModel:
    """The model.

    kind: whether it writes replies or scores them.
    architecture: its ``model_type``.
    is_encoder_decoder: whether an encoder reads the prompt.
    parameters: numbers in its weights.
    dtype: number format of the exported weights.
    context: the largest number of tokens that it reads; None without a limit.
    base: hub name or last part of the path of the base model; None for random weights.
    base_on_hub: whether ``base`` is a name on the hub.
    base_commit: of the hub; empty if it is not known.
    adapter: whether adapters were trained and merged.
    is_adapter: whether these are the adapters alone.
    adapted_rows: of the embedding that the adapters need, where the base model has another number; otherwise None.
    has_adapter: whether the directory has the adapters alone, too.
    has_pipeline: whether the directory has code of a pipeline, with which no other pipeline can be made of it.
    base_license: of the base model, as the author states it; empty if it is not known.
    """

    kind: Literal["assistant", "reward"]
    architecture: str
    is_encoder_decoder: bool
    parameters: int
    dtype: str
    context: int | None
    base: str | None
    base_on_hub: bool
    base_commit: str
    adapter: bool
    is_adapter: bool = False
    adapted_rows: int | None = None
    has_adapter: bool = False
    has_pipeline: bool = False
    base_license: str = ""


@dataclass(frozen=True, slots=True)
class ExampleReply:
    """A reply of the model that is shown as an example.

    prompt: the text that the model was given, or the question.
    reply: what it wrote, without end tokens.
    sampling: how it was generated.
    source: the file that has it.
    """

    prompt: str
    reply: str
    sampling: str
    source: str


@dataclass(frozen=True, slots=True)
class PromptFacts:
    """The prompt format.

    name: of the format.
    controls: the tokens that it adds.
    stops: the texts of the tokens that end a reply.
    questions: of the user, in examples.
    texts: what a text-generation tool is given for each of them.
    added: what the tokenizer adds before and after such a text by itself; empty texts if nothing.
    several_turns: a conversation of three messages, as text; empty for a format of one turn.
    turns: role -> the text before and after the content of its messages, which the format adds.
    asks: the text at the end of a prompt that asks for a reply.
    marks: how line breaks are written, in words; empty where they are not rewritten.
    reply: an example; None if the run has none.
    """

    name: str
    controls: tuple[str, ...]
    stops: tuple[str, ...]
    questions: tuple[str, ...]
    texts: tuple[str, ...]
    added: tuple[str, str]
    several_turns: str
    turns: Mapping[str, tuple[str, str]]
    asks: str
    marks: str
    reply: ExampleReply | None


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """One source of training data.

    name: in the recipe.
    place: hub name, or the last part of a path.
    on_hub: whether ``place`` is a name on the hub.
    split: of the source; empty where there is only one.
    license: as the author states it; empty if it is not known.
    counts: as in the manifest.
    limit: the largest number of its records that an evaluation uses; None for all.
    """

    name: str
    place: str
    on_hub: bool
    split: str
    license: str
    counts: Mapping[str, Any]
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class DataFacts:
    """The training data.

    sources: in the order of the recipe.
    train, validation: records, threads, tokens and targets of the parts; empty if there is no such part.
    separate: the sources of separate validation data; their counts are records only, and empty if they could not be
        read again.
    duplicates: records that repeat an earlier one and were kept.
    survey: of their texts; None if the data could not be read again.
    """

    sources: tuple[SourceFacts, ...]
    train: Mapping[str, int]
    validation: Mapping[str, int]
    duplicates: int
    survey: DataSurvey | None
    separate: tuple[SourceFacts, ...] = ()


@dataclass(frozen=True, slots=True)
class StartFacts:
    """One start of the run.

    step: optimizer steps that were done before.
    command: the command line; empty if it is not known.
    commit: of the source code; empty if it is not known.
    versions: package -> version, of the packages that the manifest names.
    hardware: as in the manifest.
    """

    step: int
    command: str
    commit: str
    versions: Mapping[str, str]
    hardware: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TrainingFacts:
    """The training.

    method: of the recipe, such as sft.
    steps: optimizer steps after which the exported weights were taken.
    planned: optimizer steps of the run by its plan; 0 if they are not known.
    tokens, targets, examples: that were processed up to ``steps``.
    seconds: that these steps took, also those that were done again after a stop.
    hardware, versions: as in the manifest, which has those of the last start.
    starts: those that trained the exported weights; empty if they are not known.
    changes: what was not the same in all of these starts, in words.
    export_options: what `tunesmith export` needs to write this export again; empty for that at the end of a run.
    metrics: the validation metrics of the exported weights by source; empty if they were not evaluated.
    labels: metric -> (what it is called, the format of its value).
    started, finished: times in ISO 8601; empty if they are not known.
    """

    method: str
    steps: int
    planned: int
    tokens: int
    targets: int
    examples: int
    seconds: float
    hardware: Mapping[str, Any]
    versions: Mapping[str, Any]
    metrics: Mapping[str, Mapping[str, float]]
    labels: Mapping[str, tuple[str, str]]
    starts: tuple[StartFacts, ...] = ()
    changes: tuple[str, ...] = ()
    export_options: tuple[str, ...] = ()
    started: str = ""
    finished: str = ""


@dataclass(frozen=True, slots=True)
class BenchmarkScore:
    """The score of the model, or of a model that it is compared with, in one task.

    model: its label.
    is_own: whether it is the model of the card.
    prompts: how they were written.
    task, metric, split, shots, items, score, low, high: of the task; low and high may be unknown.
    limited: whether only the first items were used.
    source: the file.
    """

    model: str
    is_own: bool
    prompts: str
    task: str
    metric: str
    split: str
    shots: int
    items: int
    score: float
    low: float | None
    high: float | None
    limited: bool
    source: str


@dataclass(frozen=True, slots=True)
class ReportSummary:
    """A sampling report of the model.

    source: the file.
    date: of the report.
    summaries: of each sampling configuration.
    parameters: name of a configuration -> its parameters.
    """

    source: str
    date: str
    summaries: tuple[ConfigurationSummary, ...]
    parameters: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class RewardScores:
    """Scores of a sampling report by a reward model.

    source: the file.
    report: the file that was scored, as in ``ReportSummary``.
    reward_model: its name.
    means: sampling configuration -> mean score.
    """

    source: str
    report: str
    reward_model: str
    means: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class CardFacts:
    """Everything that a card says.

    name: of the run.
    recipe: of the run, without local paths; recipe_text: the same as YAML, without the card.
    card: what the author says.
    benchmarks, replies, rewards: results that the run has.
    versions_of_benchmarks: package -> version.
    pages: files of comparisons.
    files: names of the files in the export, which may be linked.
    dropped: results that are not of this model, each with the reason.
    """

    name: str
    recipe: Recipe
    recipe_text: str
    card: CardConfig
    model: CardModel
    prompt: PromptFacts | None
    data: DataFacts
    training: TrainingFacts
    benchmarks: tuple[BenchmarkScore, ...] = ()
    versions_of_benchmarks: Mapping[str, str] = field(default_factory=dict)
    replies: tuple[ReportSummary, ...] = ()
    rewards: tuple[RewardScores, ...] = ()
    pages: tuple[str, ...] = ()
    files: frozenset[str] = frozenset()
    dropped: tuple[str, ...] = ()
