"""Trees read once more are the trees that were prepared: grouped, filtered, without bad rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.data.readers.test_groups import TREES
from tests.data.readers.test_oasst import answer, ask, row
from tests.data.readers.test_oasst_forms import flat
from tunesmith.data.dataset.faults import BadRows
from tunesmith.data.dataset.prepare import prepare
from tunesmith.data.dataset.rendering import RenderSettings
from tunesmith.data.dataset.split import content_key
from tunesmith.data.readers.filters import MessageFilters
from tunesmith.data.readers.pipeline import read_trees
from tunesmith.data.readers.source_config import SourceConfig

DEEP = row(ask("z", answer("y", ask("x", answer("w"))), answer("a long answer")))
FORMS: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "nested": ("oasst", [*TREES, DEEP]),
    "rows": ("oasst-messages", [value for tree in [*TREES, DEEP] for value in flat(tree)]),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("filters", [MessageFilters(), MessageFilters(max_turns=2), MessageFilters(min_characters=5)])
def test_they_are_those_of_the_store(form: str, filters: MessageFilters, tokenizer: str, tmp_path: Path) -> None:
    reader, values = FORMS[form]
    path = tmp_path / "a.jsonl"
    path.write_text("{\n" + "".join(json.dumps(value) + "\n" for value in values))
    spec = SourceConfig("data", str(path), reader, filters=filters)
    settings = RenderSettings(tokenizer, "chatml", 500)
    bad_rows = BadRows(True, 3)
    prepared = prepare([spec], settings, validation=0, seed=0, cache=tmp_path / "cache", workers=0, bad_rows=bad_rows)
    found = list(read_trees([spec]))
    assert [content_key(tree) for tree in found] == [bytes(key) for key in prepared.train.keys]
    assert prepared.report.sources["data"].bad == 1
    assert found
    assert len(list(read_trees([spec], 1))) == 1


def test_a_bad_group_is_put_aside_with_all_its_rows(tokenizer: str, tmp_path: Path) -> None:
    values = [*flat(TREES[0]), *flat(TREES[2])]
    values[2]["text"] = ""
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    spec, settings = SourceConfig("data", str(path), "oasst-messages"), RenderSettings(tokenizer, "chatml", 500)
    bad_rows = BadRows(True, 1)
    prepared = prepare([spec], settings, validation=0, seed=0, cache=tmp_path / "cache", workers=0, bad_rows=bad_rows)
    assert prepared.quarantine is not None
    (entry,) = [json.loads(line) for line in prepared.quarantine.read_text().splitlines()]
    assert entry["place"] == f"{path}:3"
    assert entry["row"] == [*flat(TREES[0])[:2], values[2], *flat(TREES[0])[3:]]
    assert len(prepared.train) == 1
