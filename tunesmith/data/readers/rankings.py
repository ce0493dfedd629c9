"""Readers of ranked lists: several replies to one prompt with a rating each. Options as in ``ranked.ranking_tree``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tunesmith.data.readers.ranked import LIST_OPTIONS, Candidate, check_prompt, ranking_tree
from tunesmith.data.readers.reader import (
    Reader,
    ReadResult,
    Settings,
    as_number,
    as_text,
    choice,
    number_of,
    objects_of,
    text_of,
)
from tunesmith.data.readers.transcripts import parse_transcript
from tunesmith.data.sources.rows import RowGroup
from tunesmith.data.sources.strict_json import type_name
from tunesmith.errors import DataError
from tunesmith.text.tree import Message

ASPECTS = ("instruction_following", "truthfulness", "honesty", "helpfulness")  # of UltraFeedback
RATING = re.compile(r"[0-9]{1,3}(\.[0-9]{1,9})?")
HELPSTEER_MEAN = ("helpfulness", "correctness", "coherence", "complexity")  # without verbosity, which is no merit


def ultrafeedback(settings: Settings, row: Mapping[str, Any]) -> ReadResult:
    """UltraFeedback as it was collected. Fields: instruction, completions [{response, annotations, overall_score}].

    The system prompt that each completion was written with is not read.

    Options:
    score: ``mean`` of the ratings of the four aspects that have a number (Argilla's choice: the overall score is wrong
        in hundreds of records), or ``overall``.
    """
    prompt = [Message("user", text_of(settings, row, "instruction"))]
    check_prompt(prompt, f"field {settings.columns['instruction']!r}")
    column = settings.columns["completions"]
    rate = _mean_aspects if settings.options["score"] == "mean" else _overall
    replies = []
    for index, completion in enumerate(objects_of(settings, row, "completions")):
        place = f"{column}[{index}]"
        score = rate(completion, place)
        text = as_text(completion.get("response"), f"{place}.response")
        replies.append(Candidate(text, -score, score, f"{place}.response"))
    return ranking_tree(settings, prompt, replies)


def _overall(completion: Mapping[str, Any], place: str) -> float:
    if completion.get("overall_score") is None:
        raise DataError(f"{place} has no overall_score", advice="set options.score to mean")
    return _rating(completion["overall_score"], f"{place}.overall_score")


def _mean_aspects(completion: Mapping[str, Any], place: str) -> float:
    """The mean of the ratings that exist; N/A counts as missing."""
    annotations = completion.get("annotations")
    if not isinstance(annotations, dict):
        raise DataError(f"{place}.annotations is {type_name(annotations)}, not an object")
    found = []
    for aspect in ASPECTS:
        annotation = annotations.get(aspect)
        value = annotation.get("Rating") if isinstance(annotation, dict) else None
        if value not in (None, "N/A"):
            found.append(_rating(value, f"{place}.annotations.{aspect}.Rating"))
    if not found:
        raise DataError(f"{place}.annotations has no rating", advice=f"it has some of {', '.join(ASPECTS)}")
    return sum(found) / len(found)


def _rating(value: Any, what: str) -> float:
    """A number, or a text of digits: the published records have both."""
    return float(value) if isinstance(value, str) and RATING.fullmatch(value) else as_number(value, what)


def nectar(settings: Settings, row: Mapping[str, Any]) -> ReadResult:
    """Nectar. Fields: prompt (a transcript that ends with ``Assistant:``), answers [{answer, rank}] from rank 1 on."""
    what = f"field {settings.columns['prompt']!r}"
    prompt = parse_transcript(text_of(settings, row, "prompt"), what)
    if prompt[-1].role == "assistant" and not prompt[-1].text.strip():
        prompt = prompt[:-1]
    check_prompt(prompt, what)
    replies = []
    for index, answer in enumerate(objects_of(settings, row, "answers")):
        place = f"{settings.columns['answers']}[{index}]"
        rank = as_number(answer.get("rank"), f"{place}.rank")
        replies.append(Candidate(as_text(answer.get("answer"), f"{place}.answer"), rank, None, f"{place}.answer"))
    return ranking_tree(settings, prompt, replies)


def stackexchange(settings: Settings, row: Mapping[str, Any]) -> ReadResult:
    """Stack Exchange. Fields: question, answers [{text, pm_score}]; the texts are HTML and are not converted."""
    prompt = [Message("user", text_of(settings, row, "question"))]
    check_prompt(prompt, f"field {settings.columns['question']!r}")
    replies = []
    for index, answer in enumerate(objects_of(settings, row, "answers")):
        place = f"{settings.columns['answers']}[{index}]"
        score = as_number(answer.get("pm_score"), f"{place}.pm_score")
        replies.append(Candidate(as_text(answer.get("text"), f"{place}.text"), -score, score, f"{place}.text"))
    return ranking_tree(settings, prompt, replies)


def helpsteer(settings: Settings, group: RowGroup) -> ReadResult:
    """HelpSteer. Fields: prompt, response and five ratings from 0 to 4; the rows of one prompt are grouped.

    Options:
    score: ``mean`` of helpfulness, correctness, coherence and complexity, or ``helpfulness``; a higher score is a
        higher rank (a well-known conversion had it the wrong way round).
    """
    replies = []
    for row, place in zip(group.rows, group.places, strict=True):
        what = f"field {settings.columns['response']!r} of {place}"
        try:
            names = HELPSTEER_MEAN if settings.options["score"] == "mean" else HELPSTEER_MEAN[:1]
            score = sum(number_of(settings, row, name) for name in names) / len(names)
            replies.append(Candidate(text_of(settings, row, "response"), -score, score, what))
        except DataError as error:
            raise DataError(error.what, where=place, advice=error.advice) from None
    prompt = [Message("user", text_of(settings, group.rows[0], "prompt"))]
    check_prompt(prompt, f"field {settings.columns['prompt']!r}")
    return ranking_tree(settings, prompt, replies)


RANKINGS: dict[str, Reader] = {
    "ultrafeedback": Reader(
        ultrafeedback,
        ("instruction", "completions"),
        {**LIST_OPTIONS, "score": choice("mean", "overall")},
        inner={"completions": dict.fromkeys(("response", "annotations", "overall_score"))},
    ),
    "nectar": Reader(nectar, ("prompt", "answers"), LIST_OPTIONS, inner={"answers": dict.fromkeys(("answer", "rank"))}),
    "stackexchange": Reader(
        stackexchange,
        ("question", "answers"),
        LIST_OPTIONS,
        inner={"answers": dict.fromkeys(("text", "pm_score"))},
    ),
    "helpsteer": Reader(
        helpsteer,
        ("prompt", "response", *HELPSTEER_MEAN),
        {**LIST_OPTIONS, "score": choice("mean", "helpfulness")},
        group="prompt",
    ),
}
