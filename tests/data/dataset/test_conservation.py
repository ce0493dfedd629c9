"""Nothing is lost and nothing appears from nowhere, whatever the data, the filters and the policies are."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from tests.data.small_runs import arrays, content
from tunesmith.data.dataset import building, rendering
from tunesmith.data.dataset.duplicates import DuplicateSettings
from tunesmith.data.dataset.faults import BadRows
from tunesmith.data.dataset.plan import Draw, Plan
from tunesmith.data.dataset.prepare import Prepared, prepare
from tunesmith.data.dataset.rendering import RenderSettings
from tunesmith.data.dataset.report import SourceCounts
from tunesmith.data.readers.filters import MessageFilters
from tunesmith.data.readers.source_config import Holdout, SourceConfig
from tunesmith.errors import DataError, InternalError, MissingInputError

WORDS = [f"word{number}" for number in range(8)]
texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=12).map(" ".join)


@st.composite
def chats(draw: st.DrawFn) -> str:
    roles = [*([{"role": "system"}] if draw(st.booleans()) else [])]
    roles += [{"role": "user"}, {"role": "assistant"}] * draw(st.integers(1, 3))
    return json.dumps({"messages": [{**role, "content": draw(texts)} for role in roles]})


BAD = ['{"messages": []}', "{", '{"messages": [{"role": "user", "content": "a"}]}', '{"x": 1}']
rows = st.one_of(
    chats(),
    chats(),
    chats(),
    st.sampled_from(BAD),
    st.sampled_from(
        [json.dumps({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]})]
    ),
)
sources = st.lists(st.lists(rows, min_size=1, max_size=14), min_size=1, max_size=3)
filters = st.builds(
    MessageFilters,
    min_characters=st.sampled_from([0, 0, 8]),
    max_characters=st.sampled_from([None, None, 60]),
    max_turns=st.sampled_from([None, None, 2, 4]),
)
policies = st.fixed_dictionaries(
    {
        "duplicates": st.builds(
            DuplicateSettings, st.sampled_from(["keep", "exact", "near"]), st.sampled_from([0.5, 0.9])
        ),
        "bad_rows": st.sampled_from([BadRows(), BadRows(True, 0.5), BadRows(True, 100), BadRows(True, 100)]),
        "validation": st.sampled_from([0, 1, 3, 0.3]),
        "seed": st.integers(0, 9),
    }
)


def run(
    directory: Path, given_sources: list[list[str]], tokenizer: str, kept: MessageFilters, holding: Holdout, **more: Any
) -> Prepared | str:
    """What came of it, or what was said against it."""
    specs = []
    for index, lines in enumerate(given_sources):
        path = directory / f"{index}.jsonl"
        path.write_text("\n".join(lines), encoding="utf-8")
        specs.append(SourceConfig(f"source-{index}", str(path), "messages", filters=kept, holdout=holding))
    render = RenderSettings(tokenizer, "chatml", 150, more.pop("truncation"))
    try:
        return prepare(specs, render, cache=directory / more.pop("cache", "cache"), **{"workers": 0, **more})
    except (DataError, MissingInputError) as error:
        return str(error)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sources,
    filters,
    policies,
    st.sampled_from(["drop", "right", "left", "window"]),
    st.sampled_from([Holdout(), Holdout(limit=1), Holdout(2)]),
)
def test_what_goes_in_comes_out_or_is_accounted_for(
    tokenizer: str,
    given_sources: list[list[str]],
    kept: MessageFilters,
    policy: dict[str, Any],
    truncation: str,
    holding: Holdout,
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        found = run(Path(directory), given_sources, tokenizer, kept, holding, truncation=truncation, **policy)
        lost = [line for lines in given_sources for line in lines if line in BAD]
        allowed = policy["bad_rows"].allows(len(lost), sum(map(len, given_sources)))
        event("made" if isinstance(found, Prepared) else "refused")
        if isinstance(found, str):
            assert not allowed or "records is left" in found or "holds out" in found
            return
        assert allowed
        report = found.report
        for lines, tally in zip(given_sources, report.sources.values(), strict=True):
            tally.check()
            assert tally.records == len(lines)
            assert tally.duplicates == 0 or policy["duplicates"].policy != "keep"
        bad = sum(tally.bad for tally in report.sources.values())
        assert bad == len(lost) == (0 if found.quarantine is None else len(found.quarantine.read_bytes().splitlines()))
        sides = [report.train, *([report.validation] if report.validation else [])]
        used = sum(tally.used for tally in report.sources.values())
        assert used == sum(side.records for side in sides) + report.aside
        if not report.aside:
            trained, context = (
                sum(getattr(t, name) for t in report.sources.values()) for name in ("trained", "context")
            )
            assert sum(side.targets for side in sides) == trained
            assert sum(side.tokens for side in sides) == trained + context
        keys = [set(map(bytes, store.keys)) for store in (found.train, found.validation) if store is not None]
        assert len(keys) == 1 or not keys[0] & keys[1]
        if policy["duplicates"].policy != "keep":
            assert sum(map(len, keys)) + report.aside == used
        again = run(Path(directory), given_sources, tokenizer, kept, holding, truncation=truncation, **policy)
        assert isinstance(again, Prepared)
        assert again.report == report
        _check_plan(found, policy["seed"])


def _check_plan(found: Prepared, seed: int) -> None:
    """An epoch has of every source what was asked for, and nothing that is not in the store."""
    present = np.unique(found.train.source)
    draws = [
        Draw(f"source-{source}", np.flatnonzero(found.train.source == source), 1 + (seed + int(source)) * 3 % 11)
        for source in present
    ]
    plan = Plan(found.train.tokens, 200, 1, None, seed, draws)
    used = [example for step in range(plan.total_steps) for example in plan.step(step).examples]
    held = np.bincount(found.train.source[used], minlength=int(present.max()) + 1)
    assert [int(held[source]) for source in present] == [draw.count for draw in draws]


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("policy", ["keep", "near"])
def test_processes_account_for_the_same_as_none(policy: Any, tokenizer: str, tmp_path: Path) -> None:
    given_sources = [
        [
            json.dumps(
                {
                    "messages": [
                        {"role": role, "content": f"{role} {number % 9 * 'ha '}{number % 5}"}
                        for role in ("user", "assistant") * (1 + number % 3)
                    ]
                }
            )
            if number % 7
            else '{"messages": 3}'
            for number in range(start, start + 60)
        ]
        for start in (0, 20)
    ]
    found = []
    for workers in (0, 2):
        more = {
            "duplicates": DuplicateSettings(policy, 0.7),
            "bad_rows": BadRows(True, 0.5),
            "validation": 5,
            "seed": 1,
        }
        kept = MessageFilters(max_turns=4, min_characters=12)
        found.append(
            run(
                tmp_path,
                given_sources,
                tokenizer,
                kept,
                Holdout(),
                truncation="drop",
                cache=str(workers),
                workers=workers,
                **more,
            )
        )
    alone, together = found
    assert isinstance(alone, Prepared)
    assert isinstance(together, Prepared)
    assert arrays(alone) == arrays(together)
    assert alone.report == together.report
    assert content(alone.train) == content(together.train)
    assert all(tally.bad and tally.rejected for tally in alone.report.sources.values())
    assert bool(alone.report.duplicates) == (policy == "keep")


LOSSES: dict[str, dict[str, int]] = {
    "a record": {"used": -1},
    "a bad row": {"bad": -1},
    "a duplicate": {"duplicates": 1},
    "a token": {"trained": -1},
    "tokens of a duplicate": {"repeated": 7},
    "a token that was cut": {"cut": -1},
}


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_is_noticed(loss: str) -> None:
    tally = SourceCounts(
        records=20, used=10, duplicates=3, bad=7, tokens=100, trained=20, context=50, cut=10, repeated=20
    )
    tally.check()
    for name, amount in LOSSES[loss].items():
        setattr(tally, name, getattr(tally, name) + amount)
    with pytest.raises(InternalError, match="were read"):
        tally.check()


def test_a_token_tree_that_is_not_written_is_noticed(
    tokenizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [
        json.dumps({"messages": [{"role": "user", "content": str(number)}, {"role": "assistant", "content": "b"}]})
        for number in range(5)
    ]
    original = rendering.pack
    monkeypatch.setattr(rendering, "pack", lambda *columns: original(*(column[1:] for column in columns)))
    with pytest.raises(InternalError, match=r"counted, .* stored"):
        run(tmp_path, [lines], tokenizer, MessageFilters(), Holdout(), truncation="drop", validation=0, seed=0)


def test_a_duplicate_that_is_written_all_the_same_is_noticed(
    tokenizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = json.dumps({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]})
    original = building._without_duplicates

    def forgetful(chunk: Any, repeated: Any) -> Any:
        original(chunk, repeated)
        return chunk.trees

    monkeypatch.setattr(building, "_without_duplicates", forgetful)
    more: dict[str, Any] = {"truncation": "drop", "validation": 0, "seed": 0, "duplicates": DuplicateSettings("exact")}
    with pytest.raises(InternalError, match=r"counted, .* stored"):
        run(tmp_path, [[line, line]], tokenizer, MessageFilters(), Holdout(), **more)
