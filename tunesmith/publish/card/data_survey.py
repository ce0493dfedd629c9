"""The languages of the training data, and their overlap with evaluation sets, measured once and kept in the run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
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
from tunesmith.recipe.schema import Recipe
from tunesmith.train.run.journal import SEAL

SURVEY = "data-survey.json"
"""The file in the directory of a run."""
MOST_RECORDS = 3_000  # whose languages are detected; of more, a share chosen by their content
Progress = Callable[[int, int | None, str], None]


@dataclass(frozen=True, slots=True)
class DataSurvey:
    """What the texts of the training data show.

    inputs: digest of the data and the settings of the survey.
    hub: the names of the sources that were read from the hub.
    records: that were read.
    declared: code of a language -> messages that the data declare to be in it.
    detected: code of a language -> records that declare none, and in whose texts together it was detected.
    overlapping: records with a text of an evaluation set; None without such sets.
    evaluation_texts: texts of these sets that were compared.
    """

    inputs: str
    hub: list[str] = field(default_factory=list)
    records: int = 0
    declared: dict[str, int] = field(default_factory=dict)
    detected: dict[str, int] = field(default_factory=dict)
    overlapping: int | None = None
    evaluation_texts: int = 0


def survey_data(
    run: Path, recipe: Recipe, digests: Mapping[str, str], records: int, progress: Progress
) -> DataSurvey | None:
    """The survey that the run has, or a new one, which is kept; None if the data are not there any more.

    run: its directory.
    recipe: of the run.
    digests: of the content of every source, from its manifest.
    records: of all sources, from its manifest.
    Raises StorageError.
    """
    inputs = fingerprint({"data": dict(digests), "sets": list(recipe.data.evaluation_sets), "most": MOST_RECORDS})
    if (known := read_survey(run / SURVEY)) is not None and known.inputs == inputs:
        return known
    try:
        hub = list[str]()
        for source in recipe.data.sources:
            opened = open_source(source.path, source.split, source.config)
            if opened.digest != digests.get(source.name):
                return None
            hub += [] if opened.files else [source.name]
        found = _survey(recipe, records, progress)
    except TunesmithError:  # data that are gone or have changed are no fault of the card; it says nothing of them
        return None
    found = replace(found, inputs=inputs, hub=hub)
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


def _survey(recipe: Recipe, records: int, progress: Progress) -> DataSurvey:
    sets = EvaluationSets(recipe.data.evaluation_sets) if recipe.data.evaluation_sets else None
    detect = language_detector()
    share = min(1.0, MOST_RECORDS / max(records, 1))
    declared, detected, overlapping, number = Counter[str](), Counter[str](), 0, 0
    for number, tree in enumerate(read_trees(source_configs(recipe, recipe.data.sources)), 1):
        progress(number, records, f"{number:,} of {records:,} records")
        if sets is not None and sets.overlap(tree):
            overlapping += 1
        declared.update(message.lang.lower() for message in tree.messages if message.lang is not None)
        text = "\n".join(f"{message.text}\n{message.context}" for message in tree.messages if message.lang is None)
        is_chosen = int.from_bytes(content_key(tree)[:8], "little") < share * 2**64
        if is_chosen and sum(map(str.isalpha, text)) >= LANGUAGE_LETTERS:
            language, probability = detect(text)
            detected[language] += probability >= LANGUAGE_PROBABILITY
    return DataSurvey(
        inputs="",
        records=number,
        declared=dict(declared.most_common()),
        detected={name: count for name, count in detected.most_common() if count},
        overlapping=None if sets is None else overlapping,
        evaluation_texts=0 if sets is None else sets.texts,
    )
