"""Local files of benchmarks: finding them, and rows in the layout that the tasks of lm-evaluation-harness read.

Rows are in the columns of the hub's data sets, or as the publisher wrote them: nested questions of ARC and OpenBookQA,
true and false of BoolQ, choices as keys in TruthfulQA.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from tunesmith.errors import DataError

Row: TypeAlias = dict[str, Any]

NUMBER = re.compile("0|[1-9][0-9]{0,3}")
SUFFIXES = (".jsonl", ".json")
ADVICE = "download the file again, or correct it"


def find_data_file(directory: Path, names: Sequence[str], split: str) -> Path | None:
    """The file of a data set in a directory: ``NAME.SPLIT.jsonl`` or ``NAME.jsonl``, in the order of the names."""
    for stem in (*(f"{name}.{split}" for name in names), *names):
        for suffix in SUFFIXES:
            if (path := directory / f"{stem}{suffix}").is_file():
                return path
    return None


def read_rows(path: Path, columns: Sequence[str], subject: str | None = None) -> Iterator[Row]:
    """The rows of a file, with the wanted columns only.

    columns: every row must have them; of an unknown task there are none, and rows are as they are.
    subject: keep only the rows with this subject, from a file of all subjects.
    Raises DataError with file and line.
    """
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if not line.strip():
            continue
        row = _parse(line, f"{path}:{number}")
        if subject is not None and row.get("subject", subject) != subject:
            continue
        yield convert_row(row, columns, f"{path}:{number}") if columns else row


def convert_row(row: Row, columns: Sequence[str], where: str) -> Row:
    """A row in the layout of the hub, with only these columns. Raises DataError for one that has no such layout."""
    row = _flatten_question(row, columns)
    row = {key: _flatten_targets(value) if key.endswith("_targets") else value for key, value in row.items()}
    if "label" in columns and "label" not in row and isinstance(row.get("answer"), bool):
        row = {**row, "label": row["answer"]}
    missing = [column for column in columns if column not in row]
    if missing:
        raise DataError(f"the row has no {' and no '.join(map(repr, missing))}", where=where, advice=ADVICE)
    found = {column: row[column] for column in columns}
    if "label" in found:
        found["label"] = _as_number(found["label"])
    if isinstance(found.get("answerKey"), str):
        found["answerKey"] = found["answerKey"].strip()  # the tasks look for it in the labels as it is
    for column, value in found.items():
        if (fault := _find_fault(column, value, found)) is not None:
            raise DataError(f"{column!r} {fault}", where=where, advice=ADVICE)
    return found


def _parse(line: bytes, where: str) -> Row:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"not valid JSON: {error}", where=where, advice=ADVICE) from error
    if not isinstance(row, dict):
        raise DataError("not a JSON object", where=where, advice=ADVICE)
    if b"\\u" in line:
        _check_text(row, where)
    return row


def _check_text(row: Row, where: str) -> None:
    """Raises DataError for an escaped character that UTF-8 cannot hold, which is half of a surrogate pair."""
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(error.object[error.start]):04x}"
        raise DataError(f"{half} is half of a surrogate pair", where=where, advice=ADVICE) from error


def _flatten_question(row: Row, columns: Sequence[str]) -> Row:
    """The publisher's layout of ARC and OpenBookQA: stem and choices are inside of the question."""
    question = row.get("question")
    if "answerKey" not in columns or not isinstance(question, dict):
        return row
    name = "question_stem" if "question_stem" in columns else "question"
    choices = question.get("choices")
    if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
        return row
    listed = {key: [choice.get(key) for choice in choices] for key in ("text", "label")}
    return {**row, name: question.get("stem"), "choices": listed}


def _flatten_targets(value: Any) -> Any:
    """The publisher's layout of TruthfulQA: choice -> 1 or 0."""
    if isinstance(value, dict) and value and all(type(label) is int for label in value.values()):
        return {"choices": list(value), "labels": list(value.values())}
    return value


def _as_number(value: Any) -> Any:
    """A label as a number, which the tasks compare with the number of a choice; text is never equal to it."""
    is_number = isinstance(value, bool) or (isinstance(value, str) and NUMBER.fullmatch(value))
    return int(value) if is_number else value


def _find_fault(column: str, value: Any, row: Mapping[str, Any]) -> str | None:
    """What is wrong with the value of a column; None for nothing."""
    if column == "choices":
        return _find_choices_fault(value, row)
    if column == "endings":
        return _find_empty_text(value) if _is_texts(value) else "is not a list of texts"
    if column.endswith("_targets"):
        return _find_targets_fault(value, column == "mc1_targets")
    if column == "label":
        return _find_label_fault(value, row)
    if column == "answer" and "choices" in row:
        return None if type(value) is int and 0 <= value < len(row["choices"]) else "is not the number of a choice"
    if column == "answer" and "option1" in row:
        return None if value in ("1", "2") else "is not '1' or '2'"
    if column in ("key", "kwargs", "instruction_id_list"):
        return None if column == "key" or isinstance(value, list) else "is not a list"
    if not isinstance(value, str):
        return "is not a text"
    if column == "sentence":
        return _find_sentence_fault(value, row)
    return "is empty" if column in ("sol1", "sol2") and not value else None


def _find_sentence_fault(sentence: str, row: Mapping[str, Any]) -> str | None:
    """The prompt of Winogrande is the text before the answer with an option, so it must not be empty."""
    start, place, _ = sentence.partition("_")
    if not place:
        return "has no '_' in the place of the answer"
    options = [option for option in (row["option1"], row["option2"]) if isinstance(option, str)]
    fits = all(f"{start}{option}".strip() for option in options)
    return None if fits else "begins with '_', so that it needs two options with a text"


def _find_choices_fault(value: Any, row: Mapping[str, Any]) -> str | None:
    if "answerKey" not in row:
        return None if _is_texts(value) and len(value) == 4 else "is not a list of four texts"
    fits = isinstance(value, dict) and _is_texts(value.get("text")) and _is_texts(value.get("label"))
    if not fits or len(value["text"]) != len(value["label"]):
        return "is not a list of texts with their labels"
    key = row["answerKey"]
    if not isinstance(key, str) or key not in value["label"]:
        return "has no label that is the answer"
    return _find_empty_text(value["text"])


def _find_targets_fault(value: Any, one_right: bool) -> str | None:
    """one_right: whether the first choice is the only right one; the task takes the first for the answer."""
    fits = isinstance(value, dict) and _is_texts(value.get("choices")) and isinstance(value.get("labels"), list)
    if not fits or len(value["choices"]) != len(value["labels"]):
        return "is not choices with labels"
    labels = value["labels"]
    if not all(type(label) is int and label in (0, 1) for label in labels):
        return "has a label that is not 0 or 1"
    if one_right:
        if labels[0] != 1 or sum(labels) != 1:
            return "has to begin with its only right choice"
    elif not 0 < sum(labels) < len(labels):
        return "has to have right and wrong choices"
    return _find_empty_text(value["choices"])


def _find_label_fault(value: Any, row: Mapping[str, Any]) -> str | None:
    choices = len(row["endings"]) if _is_texts(row.get("endings")) else 2
    return None if type(value) is int and 0 <= value < choices else f"is not a number from 0 to {choices - 1}"


def _find_empty_text(texts: Sequence[str]) -> str | None:
    """A choice without text has no token to score and no length to divide by."""
    return None if all(text.strip() for text in texts) else "has an empty text"


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, str) for each in value)
