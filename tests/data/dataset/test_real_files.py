"""Public files, every row of them, with what becomes of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.data.outcomes import Counts, read, read_file, tree_of
from tunesmith.data.dataset.rendering import RenderSettings, load_renderer
from tunesmith.data.readers.groups import group_rows
from tunesmith.data.readers.reader import Filtered
from tunesmith.data.sources.rows import SourceRow
from tunesmith.data.sources.source import rows
from tunesmith.errors import DataError
from tunesmith.text.tree import Tree

EARLY = {"states": None, "reviewed": False, "synthetic": True}
SCORES = {name: f"metadata.{name}" for name in ("score_chosen", "score_rejected")}


class File(NamedTuple):
    """One file with its reader, and what is expected of its rows."""

    path: str
    reader: str
    options: dict[str, Any]
    expected: Counts
    fields: dict[str, str] = {}  # noqa: RUF012 - never changed


FILES = (
    File("dolly/dolly-6000.jsonl", "dolly", {}, Counts(6000, 6000, 6000, 12000, {}, {})),
    File("dolly/dolly-6000.jsonl", "dolly", {"strip_citations": True}, Counts(6000, 6000, 6000, 12000, {}, {})),
    File("alpaca/alpaca-2000.json", "alpaca", {}, Counts(2000, 1996, 1996, 3992, {}, {}, faults=4)),
    File(
        "alpaca/alpaca-2000.json", "alpaca", {"empty": "drop"}, Counts(2000, 1996, 1996, 3992, {"empty output": 4}, {})
    ),
    File(
        "oasst/en_100_tree.jsonl.gz",
        "oasst",
        {},
        Counts(100, 95, 529, 919, {"root synthetic": 5}, {"not answered": 226}),
    ),
    File(
        "oasst/en_100_tree.jsonl.gz",
        "oasst",
        {"synthetic": True},
        Counts(100, 100, 546, 941, {}, {"not answered": 226}),
    ),
    File("oasst/en_100_message.jsonl", "oasst", EARLY, Counts(100, 100, 546, 941, {}, {"not answered": 226})),
    File("oasst/en_100_message.jsonl", "oasst", {}, Counts(100, 0, 0, 0, {}, {}, faults=100)),
    File(
        "oasst/en_100_tree.jsonl.gz",
        "oasst",
        {**EARLY, "keep": "rankings"},
        Counts(100, 100, 533, 855, {}, {"not ranked": 312}),
    ),
    File(
        "oasst/en_100_tree.jsonl.gz",
        "oasst",
        {**EARLY, "keep": "prompts"},
        Counts(100, 100, 359, 767, {}, {"no question follows": 400}),
    ),
    File(
        "oasst/en_100_tree.jsonl.gz",
        "oasst",
        {**EARLY, "top_k": 1},
        Counts(100, 99, 101, 290, {"root not answered": 1}, {"not among the best 1": 806, "not answered": 56}),
    ),
    File(
        "oasst/oasst1_en_validation-90.trees.jsonl",
        "oasst",
        {"lang": ("en",)},
        Counts(90, 90, 460, 824, {}, {"not answered": 146, "deleted": 21}),
    ),
    File(
        "oasst/oasst1_en_validation-90.trees.jsonl",
        "oasst",
        {"keep": "rankings"},
        Counts(90, 90, 444, 764, {}, {"not ranked": 206, "deleted": 21}),
    ),
    File("oasst/old_schema_trees.jsonl", "oasst", {}, Counts(21, 0, 0, 0, {}, {}, faults=21)),
    File("oasst/old_schema_trees.jsonl", "oasst", EARLY, Counts(21, 21, 74, 150, {}, {})),
    File(
        "preference/ultrafeedback_binarized-400.jsonl",
        "preference-text",
        {},
        Counts(400, 399, 798, 1197, {}, {}, faults=1),
        SCORES,
    ),
    File(
        "preference/ultrafeedback_binarized-400.jsonl",
        "preference-text",
        {"on_equal": "drop", "ties": "drop"},
        Counts(400, 357, 714, 1071, {"equal replies": 1, "equal scores": 42}, {}),
        SCORES,
    ),
    File(
        "preference/ultrafeedback_binarized-400.jsonl",
        "preference-text",
        {"on_equal": "drop", "replies": "best"},
        Counts(400, 399, 399, 798, {"equal replies": 1}, {"not the best reply": 399}),
    ),
    File("preference/dpo_en_sharegpt-300.json", "preference-sharegpt", {}, Counts(300, 300, 600, 1506, {}, {})),
    File(
        "preference/dpo_en_sharegpt-300.json",
        "preference-sharegpt",
        {"replies": "best"},
        Counts(300, 300, 300, 1206, {}, {"not the best reply": 300}),
    ),
    File("preference/hh_harmless-300.jsonl", "hh", {}, Counts(300, 299, 598, 1757, {}, {}, faults=1)),
    File(
        "preference/hh_harmless-300.jsonl",
        "hh",
        {"empty": "drop"},
        Counts(300, 299, 598, 1757, {"empty reply": 1}, {}),
    ),
)
ELSEWHERE = {"preference/ultrafeedback_raw_example.json", "oasst/prompt_lottery_en_250_text.jsonl"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{Path(file.path).name}-{file.reader}")
def test_every_row_is_read_and_counted(file: File, real_data: Callable[[str], Path]) -> None:
    found = read_file(real_data(file.path), file.reader, file.fields, **file.options)
    assert found == file.expected
    assert found.rows == found.trees + sum(found.rejected.values()) + found.faults


@pytest.mark.parametrize("folder", ["dolly", "alpaca", "oasst", "preference"])
def test_no_file_is_left_out(folder: str, real_data: Callable[[str], Path]) -> None:
    there = {f"{folder}/{item.name}" for item in real_data(folder).iterdir()}
    assert there <= {file.path for file in FILES} | ELSEWHERE


def test_the_only_row_that_cannot_be_compared_is_named(real_data: Callable[[str], Path]) -> None:
    found = []
    for name, reader in (("ultrafeedback_binarized-400.jsonl", "preference-text"), ("hh_harmless-300.jsonl", "hh")):
        for row in rows(str(real_data(f"preference/{name}"))):
            try:
                read(reader, row.value)
            except DataError as error:
                found.append((row.place.rpartition("/")[2], error.what))
    assert found == [
        ("ultrafeedback_binarized-400.jsonl:307", "field 'chosen' and field 'rejected' are equal"),
        ("hh_harmless-300.jsonl:87", "field 'chosen' is empty"),
    ]


def test_a_raw_ultrafeedback_record_is_read(real_data: Callable[[str], Path]) -> None:
    """The published example has one completion and no overall score."""
    record = json.loads(real_data("preference/ultrafeedback_raw_example.json").read_text(encoding="utf-8"))
    assert read("ultrafeedback", record) == Filtered("fewer than two replies")
    best = tree_of(read("ultrafeedback", record, replies="best"))
    assert [message.role for message in best.messages] == ["user", "assistant"]
    assert best.messages[1].score == (2 + 3 + 3 + 3) / 4
    with pytest.raises(DataError, match=r"completions\[0\] has no overall_score"):
        read("ultrafeedback", record, score="overall")


def nested(path: Path) -> list[dict[str, Any]]:
    return [row.value for row in rows(str(path))]


def flat(tree: dict[str, Any]) -> list[dict[str, Any]]:
    """The messages of a tree as rows of the hub."""
    found, waiting = [], [(tree["prompt"], None)]
    while waiting:
        content, above = waiting.pop()
        waiting.extend((reply, content["message_id"]) for reply in reversed(content.get("replies") or []))
        labels = content.get("labels")
        found.append({key: value for key, value in content.items() if key not in ("replies", "labels")})
        found[-1] |= {"message_tree_id": tree["message_tree_id"], "tree_state": tree["tree_state"], "parent_id": above}
        if labels is not None:
            columns = {"name": list(labels), "value": [entry["value"] for entry in labels.values()]}
            found[-1]["labels"] = {**columns, "count": [entry["count"] for entry in labels.values()]}
    return found


@pytest.mark.parametrize("keep", ["threads", "rankings", "prompts"])
@pytest.mark.parametrize("name", ["en_100_tree.jsonl.gz", "oasst1_en_validation-90.trees.jsonl"])
def test_real_trees_are_the_same_from_rows_of_messages(name: str, keep: str, real_data: Callable[[str], Path]) -> None:
    trees = nested(real_data(f"oasst/{name}"))
    messages = [
        SourceRow(f"f:{i}", value, 0.0) for i, value in enumerate(value for tree in trees for value in flat(tree))
    ]
    groups = [item for item in group_rows(messages, "message_tree_id") if isinstance(item, SourceRow)]
    found = [read("oasst-messages", item.value, keep=keep) for item in groups]
    assert found == [read("oasst", tree, keep=keep) for tree in trees]


def test_the_hundred_trees_have_626_threads_before_filters(real_data: Callable[[str], Path]) -> None:
    leaves, messages = 0, 0
    for tree in nested(real_data("oasst/en_100_tree.jsonl.gz")):
        waiting = [tree["prompt"]]
        while waiting:
            content = waiting.pop()
            messages += 1
            leaves += not content.get("replies")
            waiting.extend(content.get("replies") or [])
    assert (leaves, messages) == (626, 1167)


def test_shared_turns_are_stored_once(real_data: Callable[[str], Path]) -> None:
    """Threads of OpenAssistant repeat their beginnings: about one and a half times the tokens of the trees."""
    settings = RenderSettings(str(real_data("tokenizers/pythia")), "oasst", 100_000)
    renderer = load_renderer(settings)
    trees: list[Tree] = []
    for value in nested(real_data("oasst/en_100_tree.jsonl.gz")):
        trees.append(tree_of(read("oasst", value, synthetic=True)))
    paths = [Tree.path([tree.messages[index] for index in path]) for tree in trees for path in tree.threads()]
    as_trees, as_threads = (sum(len(renderer.render(tree).ids) for tree in some) for some in (trees, paths))
    print(f"{as_threads:,} tokens as threads, {as_trees:,} as trees, ratio {as_threads / as_trees:.3f}")
    assert len(paths) == 546
    assert 1.3 < as_threads / as_trees < 1.8
