"""Records with long threads: what is stored, what is counted, on real trees too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.data.small_runs import RECORDS, run, write
from tunesmith.data.dataset.prepare import prepare
from tunesmith.data.dataset.rendering import RenderSettings, load_renderer
from tunesmith.data.readers.source_config import SourceConfig
from tunesmith.text.tokens.crop import CropSettings, crop_threads
from tunesmith.text.tokens.truncate import Policy

TAGS: dict[str, Any] = {"system_tags": True, "add_length": True, "prefix": "You are Joi.", "seed": 3}


@pytest.mark.parametrize("truncation", ["left", "window"])
def test_long_records_are_stored_whole_and_measured_as_they_are_laid_out(
    truncation: str, tokenizer: str, tmp_path: Path
) -> None:
    records = [{"instruction": "Go on.", "response": "on and on " * 100}, RECORDS[0]]
    prepared = run(write(tmp_path / "a.jsonl", records), tokenizer, tmp_path / "cache", truncation=truncation)
    assert len(prepared.train.tree(0).ids) > prepared.train.tokens[0] == 200
    assert len(prepared.train.tree(1).ids) == prepared.train.tokens[1] < 200
    assert prepared.train.targets[0] < len(prepared.train.tree(0).targets())


@pytest.mark.parametrize("policy", ["drop", "right", "left", "window"])
@pytest.mark.parametrize("options", [{}, TAGS], ids=["plain", "tags"])
def test_every_token_of_real_trees_is_accounted_for(
    policy: Policy, options: dict[str, Any], real_data: Callable[[str], Path], tmp_path: Path
) -> None:
    trees, pythia = real_data("oasst/oasst1_en_validation-90.trees.jsonl"), str(real_data("tokenizers/pythia"))
    settings = RenderSettings(pythia, "oasst", 256, policy, tuple(sorted(options.items())))
    spec = SourceConfig("oasst", str(trees), "oasst", options={"lang": ["en"]})
    prepared = prepare([spec], settings, validation=0, seed=0, cache=tmp_path, workers=0)
    tally, store = prepared.report.sources["oasst"], prepared.train
    assert tally.records == 90 == tally.used + tally.rejected.total()
    assert tally.tokens == tally.trained + tally.context + tally.cut
    assert tally.cut > tally.tokens / 4
    assert tally.trained == store.targets.sum()
    if policy in ("drop", "right"):
        assert tally.trained + tally.context == store.tokens.sum()
        return
    assert tally.used == 90
    rule = CropSettings(policy, 256, load_renderer(settings).opening)  # type: ignore[arg-type]
    for number in range(len(store)):
        parts = crop_threads(store.tree(number), rule)
        assert store.tokens[number] == sum(len(part.ids) for part in parts)
        assert store.threads[number] == sum(part.threads for part in parts)
        once = crop_threads(store.tree(number), rule, once=True)
        assert store.targets[number] == sum(len(part.targets()) for part in once)
