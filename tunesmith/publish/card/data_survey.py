"""The languages of the training data, and their overlap with evaluation sets, measured once and kept in the run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from tunesmith.compose.components.data import source_configs
from tunesmith.data.dataset.evaluation_sets import EvaluationSets
from tunesmith.data.dataset.inspection import LANGUAGE_LETTERS, LANGUAGE_PROBABILITY, language_detector
from tunesmith.data.dataset.split import content_key
from tunesmith.data.readers.pipeline import read_trees
from tunesmith.data.sources.source import open_source
from tunesmith.errors import TunesmithError
from tunesmith.files import fingerprint, read_object, write_json
from tunesmith.recipe.schema import DataSourceConfig, Recipe
from tunesmith.text.tree import Tree
from tunesmith.train.run.journal import SEAL

SURVEY = "data-survey.json"
"""The file in the directory of a run."""
MOST_RECORDS = 3_000  # whose languages are detected; of more, a share chosen by their content
Progress = Callable[[int, int | None, str], None]


@dataclass(frozen=True, slots=True)
class SourceDigests:
    """Name -> digest of the content of every source, from the manifest of a run.

    train: of the training data. validation: of separate validation data.
    """

    train: Mapping[str, str]
    validation: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class DataSurvey:
    """What the texts of the training data show, and those of separate validation data.

    inputs: digest of the data and the settings of the survey.
    hub: the names of the sources that were read from the hub.
    records: that were read.
    declared: code of a language -> messages that the data declare to be in it.
    detected: code of a language -> records that declare none, and in whose texts together it was detected.
    overlapping: records with a text of an evaluation set; None without such sets.
    evaluation_texts: texts of these sets that were compared.
    validation_hub, validation_declared, validation_detected: the same of separate validation data.
    validation_records: name of a source of separate validation data -> records that were read.
    validation_overlapping: training records with a text of separate validation data; None without such data.
    """

    inputs: str
    hub: list[str] = field(default_factory=list)
    records: int = 0
    declared: dict[str, int] = field(default_factory=dict)
    detected: dict[str, int] = field(default_factory=dict)
    overlapping: int | None = None
    evaluation_texts: int = 0
    validation_hub: list[str] = field(default_factory=list)
    validation_records: dict[str, int] = field(default_factory=dict)
    validation_declared: dict[str, int] = field(default_factory=dict)
    validation_detected: dict[str, int] = field(default_factory=dict)
    validation_overlapping: int | None = None


def survey_data(
    run: Path, recipe: Recipe, digests: SourceDigests, records: int, progress: Progress
) -> DataSurvey | None:
    """The survey that the run has, or a new one, which is kept; None if the data are not there any more.

    run: its directory.
    recipe: of the run.
    digests: of the content of every source.
    records: of all sources, from its manifest.
    Raises StorageError.
    """
    separate = {"validation": dict(digests.validation)} if digests.validation else {}
    inputs = fingerprint(
        {"data": dict(digests.train), "sets": list(recipe.data.evaluation_sets), "most": MOST_RECORDS, **separate}
    )
    if (known := read_survey(run / SURVEY)) is not None and known.inputs == inputs:
        return known
    try:
        hub = _names_on_hub(recipe.data.sources, digests.train)
        validation_hub = _names_on_hub(recipe.data.validation_sources, digests.validation)
        if hub is None or validation_hub is None:
            return None
        found = _survey(recipe, records, progress)
    except TunesmithError:  # data that are gone or have changed are no fault of the card; it says nothing of them
        return None
    found = replace(found, inputs=inputs, hub=hub, validation_hub=validation_hub)
    write_survey(run, found)
    return found


def write_survey(run: Path, survey: DataSurvey) -> None:
    """Keep a survey in the directory of a run, with its digest. Raises StorageError."""
    content = asdict(survey)
    write_json(run / SURVEY, {**content, SEAL: fingerprint(content)})


def read_survey(path: Path) -> DataSurvey | None:
    """The survey in a file; None if there is none, or if it is not what was written, so that it is measured again."""
    try:
        content = read_object(path)
        seal = content.pop(SEAL, None)
        return DataSurvey(**content) if seal == fingerprint(content) else None
    except (TunesmithError, TypeError):
        return None


def _names_on_hub(sources: Sequence[DataSourceConfig], digests: Mapping[str, str]) -> list[str] | None:
    """The names of the sources that are read from the hub; None if the content of one has changed."""
    found = list[str]()
    for source in sources:
        opened = open_source(source.path, source.split, source.config)
        if opened.digest != digests.get(source.name):
            return None
        found += [] if opened.files else [source.name]
    return found


@dataclass(slots=True)
class _LanguageCounts:
    """The languages of records, counted one by one.

    share: of the records that declare no language, and whose language is detected; chosen by their content.
    """

    detect: Callable[[str], tuple[str, float]]
    share: float
    declared: Counter[str] = field(default_factory=Counter)
    detected: Counter[str] = field(default_factory=Counter)

    def add(self, tree: Tree) -> None:
        self.declared.update(message.lang.lower() for message in tree.messages if message.lang is not None)
        text = "\n".join(f"{message.text}\n{message.context}" for message in tree.messages if message.lang is None)
        is_chosen = int.from_bytes(content_key(tree)[:8], "little") < self.share * 2**64
        if is_chosen and sum(map(str.isalpha, text)) >= LANGUAGE_LETTERS:
            language, probability = self.detect(text)
            self.detected[language] += probability >= LANGUAGE_PROBABILITY

    def found(self) -> tuple[dict[str, int], dict[str, int]]:
        """(declared, detected), the most frequent first."""
        return dict(self.declared.most_common()), {name: n for name, n in self.detected.most_common() if n}


def _survey(recipe: Recipe, records: int, progress: Progress) -> DataSurvey:
    detect = language_detector()
    separate, validation_records, validation = _survey_validation(recipe, detect)
    sets = EvaluationSets(recipe.data.evaluation_sets) if recipe.data.evaluation_sets else None
    languages = _LanguageCounts(detect, min(1.0, MOST_RECORDS / max(records, 1)))
    overlapping, shared, number = 0, 0, 0
    for number, tree in enumerate(read_trees(source_configs(recipe, recipe.data.sources)), 1):
        progress(number, records, f"{number:,} of {records:,} records")
        overlapping += sets is not None and sets.overlap(tree) is not None
        shared += separate is not None and separate.overlap(tree) is not None
        languages.add(tree)
    declared, detected = languages.found()
    validation_declared, validation_detected = validation.found()
    return DataSurvey(
        inputs="",
        records=number,
        declared=declared,
        detected=detected,
        overlapping=None if sets is None else overlapping,
        evaluation_texts=0 if sets is None else sets.texts,
        validation_records=validation_records,
        validation_declared=validation_declared,
        validation_detected=validation_detected,
        validation_overlapping=None if separate is None else shared,
    )


def _survey_validation(
    recipe: Recipe, detect: Callable[[str], tuple[str, float]]
) -> tuple[EvaluationSets | None, dict[str, int], _LanguageCounts]:
    """(the texts of separate validation data, name of a source -> records, their languages); None without such data."""
    sources, languages = recipe.data.validation_sources, _LanguageCounts(detect, 1.0)
    if not sources:
        return None, {}, languages
    texts, records = EvaluationSets(()), dict[str, int]()
    for source, config in zip(sources, source_configs(recipe, sources), strict=True):
        records[source.name] = 0
        for tree in read_trees([config]):
            records[source.name] += 1
            languages.add(tree)
            for message in tree.messages:
                if message.role != "system":  # records of any data may begin with the same one
                    texts.add(source.name, message.text)
    return texts, records, languages
