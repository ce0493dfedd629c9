"""Dropping what repeats an earlier record: exactly, nearly, across sources, and whoever does the work."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import REPOSITORY
from tests.data.dataset.test_similarity import changed, passage
from tests.data.small_runs import RECORDS, arrays, content, write
from tunesmith.data.dataset.duplicates import DuplicateFinder, DuplicateSettings, signatures
from tunesmith.data.dataset.prepare import Prepared, prepare
from tunesmith.data.dataset.rendering import RenderSettings
from tunesmith.data.dataset.similarity import similarity
from tunesmith.data.dataset.split import content_key
from tunesmith.data.readers.source_config import SourceConfig
from tunesmith.text.tree import Message, Tree

ONE, OTHER = " ".join(passage(1)), " ".join(passage(2))
NEARLY_ONE = " ".join(changed(passage(1), 3))


def ask(instruction: str, response: str, context: str = "") -> dict[str, Any]:
    return {"instruction": instruction, "context": context, "response": response}


FIRST = [ask("Tell me.", ONE), ask("Tell me.", OTHER), ask("Tell me.", ONE)]
SECOND = [ask("Tell me.", NEARLY_ONE), ask("Tell me.", OTHER), ask("What is 2 + 2?", "4")]


def run(paths: list[Path], tokenizer: str, cache: Path, policy: Any, workers: int = 0, **more: Any) -> Prepared:
    specs = [SourceConfig(path.stem, str(path), "dolly") for path in paths]
    settings = RenderSettings(tokenizer, "dolly", 2000)
    return prepare(
        specs,
        settings,
        **{"validation": 0, "seed": 0, **more},
        cache=cache,
        workers=workers,
        duplicates=DuplicateSettings(policy, 0.8),
    )


@pytest.mark.parametrize(
    ("policy", "kept", "dropped"),
    [("keep", [0, 1, 2, 3, 4, 5], [0, 0]), ("exact", [0, 1, 3, 5], [1, 1]), ("near", [0, 1, 5], [1, 2])],
)
def test_the_first_in_the_order_of_the_sources_stays(
    policy: str, kept: list[int], dropped: list[int], tokenizer: str, tmp_path: Path
) -> None:
    paths = [write(tmp_path / "first.jsonl", FIRST), write(tmp_path / "second.json", SECOND)]
    everything = run(paths, tokenizer, tmp_path / "cache", "keep")
    found = run(paths, tokenizer, tmp_path / "cache", policy)
    whole = content(everything.train)
    assert content(found.train) == [whole[index] for index in kept]
    tallies = found.report.sources.values()
    assert [tally.duplicates for tally in tallies] == dropped
    assert sum(tally.repeated for tally in tallies) == sum(
        len(whole[index][0]) for index in range(6) if index not in kept
    )
    assert sum(tally.trained + tally.context for tally in tallies) == found.train.tokens.sum()
    assert found.report.duplicates == (2 if policy == "keep" else 0)
    assert run(paths, tokenizer, tmp_path / "cache", policy).report == found.report


def test_the_report_says_what_was_dropped(tokenizer: str, tmp_path: Path) -> None:
    lines = run([write(tmp_path / "first.jsonl", FIRST)], tokenizer, tmp_path / "cache", "exact").report.lines()
    assert lines[0] == "first: 3 records were read: 2 are used, 1 is a duplicate"
    assert lines[1].endswith(" in duplicates")
    lines = run([write(tmp_path / "first.jsonl", FIRST)], tokenizer, tmp_path / "cache", "keep").report.lines()
    assert lines[2] == "1 record repeats an earlier one and is kept"


def test_policy_and_threshold_make_stores_of_their_own(tokenizer: str, tmp_path: Path, made: list[str]) -> None:
    path = write(tmp_path / "first.jsonl", RECORDS[:5])
    spec, settings = SourceConfig("first", str(path), "dolly"), RenderSettings(tokenizer, "dolly", 200)
    for policy, threshold in (
        ("keep", 0.5),
        ("keep", 0.9),
        ("exact", 0.5),
        ("exact", 0.9),
        ("near", 0.5),
        ("near", 0.9),
    ):
        prepare(
            [spec],
            settings,
            validation=0,
            seed=0,
            cache=tmp_path / "cache",
            workers=0,
            duplicates=DuplicateSettings(policy, threshold),  # type: ignore[arg-type]
        )
    assert len(made) == 4


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("policy", ["exact", "near"])
def test_processes_drop_the_same_as_none(policy: str, tokenizer: str, tmp_path: Path) -> None:
    records = [*RECORDS, *FIRST, *RECORDS[10:30], *SECOND]
    path = write(tmp_path / "a.jsonl", records)
    alone, together = (run([path], tokenizer, tmp_path / str(workers), policy, workers) for workers in (0, 2))
    assert arrays(alone) == arrays(together)
    assert alone.report == together.report
    assert alone.report.sources["a"].duplicates >= 22


def test_no_near_duplicate_straddles_the_split(tokenizer: str, tmp_path: Path) -> None:
    texts = [" ".join(part) for seed in range(15) for part in (passage(seed), changed(passage(seed), 3, seed))]
    path = write(tmp_path / "a.jsonl", [ask("Tell me.", text) for text in texts])
    straddling = []
    for policy in ("keep", "near"):
        found = run([path], tokenizer, tmp_path / "cache", policy, validation=8, seed=3)
        assert found.validation is not None
        keys = {
            content_key(Tree.path((Message("user", "Tell me."), Message("assistant", text)))): text for text in texts
        }
        sides = [
            {texts.index(keys[bytes(key)]) // 2 for key in store.keys} for store in (found.train, found.validation)
        ]
        straddling.append(len(sides[0] & sides[1]))
    assert straddling[0] > 0
    assert straddling[1] == 0


def tree(question: str, *replies: str, context: str = "", system: str = "") -> Tree:
    messages = [Message("user", question, context=context), *(Message("assistant", reply) for reply in replies)]
    parents = [-1, *(0 for _ in replies)]
    if system:
        messages, parents = [Message("system", system), *messages], [-1, 0, *(1 for _ in replies)]
    return Tree(tuple(messages), tuple(parents))


def alike(one: Tree, other: Tree) -> bool:
    return similarity(signatures(one), signatures(other)) >= 0.8


def test_what_is_alike_and_what_is_not() -> None:
    assert alike(tree("Who?", ONE), tree("Who?", NEARLY_ONE))
    assert alike(tree("Who?", ONE, OTHER), tree("Who?", OTHER, ONE))  # the order of the replies
    assert alike(tree("Who?", ONE, system="Be kind."), tree("Who?", ONE, system=OTHER))
    assert not alike(tree("Who?", "Ada", context=ONE), tree("When?", "1843", context=ONE))
    assert not alike(tree("Is it good?", "Yes", context=ONE), tree("Is it good?", "Yes", context=OTHER))
    assert not alike(tree("Who?", "Ada", system=ONE), tree("Where?", "London", system=ONE))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from("abcdef"), max_size=30), st.sampled_from(["exact", "near"]))
def test_every_content_is_kept_once(letters: list[str], policy: Any) -> None:
    known = DuplicateFinder(DuplicateSettings(policy, 0.8))
    passages = {letter: " ".join(passage(ord(letter), 30)) for letter in letters}
    kept = []
    for letter in letters:
        one = tree(letter, passages[letter])
        if not known.add(content_key(one), signatures(one)):
            kept.append(letter)
    assert kept == list(dict.fromkeys(letters))


def test_real_near_duplicates_are_few_and_real(
    real_data: Callable[[str], Path], tokenizer: str, tmp_path: Path
) -> None:
    """All nine were looked at: the same question with the same reply, six of them to the letter."""
    path = real_data("dolly/dolly-6000.jsonl")
    found = [
        run([path], tokenizer, tmp_path, policy).report.sources["dolly-6000"].duplicates for policy in ("exact", "near")
    ]
    assert found == [6, 9]


def test_scipy_and_datasketch_are_loaded_for_near_duplicates_only() -> None:
    code = (
        "import sys\n"
        "import tunesmith.data.dataset.{module}\n"
        "print([name for name in ('scipy', 'datasketch') if name in sys.modules])"
    )
    modules = sorted(path.stem for path in (REPOSITORY / "tunesmith/data/dataset").glob("[a-z]*.py"))
    assert "prepare" in modules
    whole = code.format(module=modules[0] + "".join(f"\nimport tunesmith.data.dataset.{name}" for name in modules))
    command = [sys.executable, "-c", whole]
    printed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"
    near = "from tunesmith.data.dataset.similarity import NearDuplicates; NearDuplicates(0.8)\nprint"
    command = [sys.executable, "-c", whole.replace("print", near)]
    printed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "['scipy', 'datasketch']"
