"""From sources to stores: the same whatever the form and the number of processes, all counted, and nothing half done."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import REPOSITORY
from tests.data.test_sources import write
from tests.text.small_tokenizers import prefixed, write_tokenizer
from tunesmith.data import prepare as prepare_module
from tunesmith.data import rendering
from tunesmith.data.prepare import Prepared, prepare
from tunesmith.data.rendering import RenderSettings, load_renderer
from tunesmith.data.sources import SourceSpec
from tunesmith.data.store import LAYOUT, Store, StoreWriter
from tunesmith.errors import DataError, InternalError, MissingInputError, RecipeError, StorageError
from tunesmith.text.tree import Message, Tree

RECORDS: list[dict[str, Any]] = [
    {"instruction": f"What is {number} + {number}?", "context": "sum" * (number % 3), "response": f"It is {2 * number}."}
    for number in range(60)
]


def run(
    path: Path | str,
    tokenizer: str,
    cache: Path,
    *,
    validation: int | float = 0,
    seed: int = 0,
    workers: int = 0,
    reader: str = "dolly",
    fields: dict[str, str] | None = None,
    options: dict[str, Any] | None = None,
    name: str = "data",
    progress: Any = None,
    **render: Any,
) -> Prepared:
    settings = RenderSettings(**{"tokenizer": tokenizer, "format": "dolly", "max_length": 200, **render})
    spec = SourceSpec(name, str(path), reader, fields=fields or {}, options=options or {})
    told = {} if progress is None else {"progress": progress}
    return prepare([spec], settings, validation=validation, seed=seed, cache=cache, workers=workers, **told)


def content(store: Store) -> list[tuple[Any, ...]]:
    trees = [store.tree(index) for index in range(len(store))]
    return [(t.ids.tolist(), t.segments.tolist(), t.spans.tolist(), t.threads, t.cut) for t in trees]


def arrays(prepared: Prepared) -> dict[str, bytes]:
    return {name: (prepared.directory / "store" / f"{name}.bin").read_bytes() for name in LAYOUT}


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows by one whenever a store is made, and not when it is found."""
    made: list[str] = []
    original = prepare_module._make

    def count(*given: Any) -> None:
        made.append("store")
        original(*given)

    monkeypatch.setattr(prepare_module, "_make", count)
    return made


def test_the_store_has_the_rendered_records_in_order(tokenizer: str, tmp_path: Path) -> None:
    prepared = run(write(tmp_path / "a.jsonl", RECORDS), tokenizer, tmp_path / "cache")
    renderer = load_renderer(RenderSettings(tokenizer, "dolly", 200))
    expected = []
    for record in RECORDS:
        turns = (Message("user", record["instruction"], context=record["context"]), Message("assistant", record["response"]))
        tree = renderer.render(Tree.path(turns))
        expected.append((tree.ids.tolist(), tree.segments.tolist(), tree.spans.tolist(), 1, 0))
    assert content(prepared.train) == expected
    assert prepared.validation is None


@pytest.mark.parametrize("name", ["a.json", "a.jsonl.gz", "a.json.gz", "a.parquet"])
def test_every_form_of_the_same_records_gives_the_same_store(name: str, tokenizer: str, tmp_path: Path) -> None:
    expected = run(write(tmp_path / "a.jsonl", RECORDS), tokenizer, tmp_path / "cache")
    found = run(write(tmp_path / name, RECORDS), tokenizer, tmp_path / "cache")
    assert found.key != expected.key
    assert arrays(found) == arrays(expected)
    assert found.report == expected.report


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several chunks of the few records, and processes for them."""
    monkeypatch.setattr(prepare_module, "ROWS_IN_CHUNK", 7)
    monkeypatch.setattr(rendering, "SMALL", 2)


@pytest.mark.usefixtures("small_chunks")
def test_processes_make_the_same_store_as_none(tokenizer: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", RECORDS)
    alone, together = (run(path, tokenizer, tmp_path / str(workers), workers=workers) for workers in (0, 2))
    assert arrays(alone) == arrays(together)
    assert alone.report == together.report


@pytest.mark.usefixtures("small_chunks")
def test_processes_find_the_same_faults_as_none(tokenizer: str, tmp_path: Path) -> None:
    records = [{**record, "response": 5} if index % 3 == 0 else record for index, record in enumerate(RECORDS)]
    path = write(tmp_path / "a.jsonl", records)
    messages = []
    for workers in (0, 2):
        with pytest.raises(DataError) as caught:
            run(path, tokenizer, tmp_path / "cache", workers=workers)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


@pytest.mark.usefixtures("small_chunks")
def test_a_process_that_dies_is_reported(tokenizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "_use_one_thread", sys.exit)
    with pytest.raises(InternalError, match=r"a process that prepares data died; .*data.workers"):
        run(write(tmp_path / "a.jsonl", RECORDS), tokenizer, tmp_path / "cache", workers=2)
    assert not list((tmp_path / "cache").glob("*/store"))


def bad_lines(count: int) -> list[str]:
    lines = [json.dumps(record) for record in RECORDS]
    faults = ["{", '{"instruction": "a"}', '{"instruction": "", "response": "b"}', '{"instruction": NaN}', '{"instruction": "a", "response": 1}']
    return lines + [faults[index % len(faults)] for index in range(count)]


def left(cache: Path) -> list[str]:
    """What is in the cache, apart from locks."""
    return [str(item) for item in cache.rglob("*") if item.is_file() and item.name != "lock"]


def test_one_bad_record_stops_everything_with_its_place(tokenizer: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(bad_lines(1)))
    with pytest.raises(DataError) as caught:
        run(path, tokenizer, tmp_path / "cache")
    assert str(caught.value).startswith(f"{path}:61: the record breaks off in the middle; ")
    assert caught.value.exit_code == 65
    assert left(tmp_path / "cache") == []


def test_many_bad_records_are_listed_and_counted(tokenizer: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(bad_lines(50)))
    with pytest.raises(DataError) as caught:
        run(path, tokenizer, tmp_path / "cache")
    lines = str(caught.value).splitlines()
    assert lines[0] == "50 records cannot be used, and nothing was kept:"
    assert [line.split(": ")[0].strip() for line in lines[1:21]] == [f"{path}:{number}" for number in range(61, 81)]
    assert lines[21].startswith("  ... and 30 more; most frequent: ")
    assert "field .. is empty (10)" in lines[21]
    assert lines[21].endswith("; mend or remove these records")
    assert len(lines) == 22
    assert left(tmp_path / "cache") == []


def test_a_broken_file_is_listed_with_the_faults_before_it(tokenizer: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('[{"instruction": "a"},\n{"instruction": "a", "response": "b"},\n{"instruc')
    with pytest.raises(DataError) as caught:
        run(path, tokenizer, tmp_path / "cache")
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("2 records cannot be used")
    assert lines[1].startswith(f"  {path}:1: field 'response' is missing")
    assert lines[2].startswith(f"  {path}:3: the record breaks off")


def test_what_the_format_refuses_is_a_fault_with_a_place(tokenizer: str, tmp_path: Path) -> None:
    turns = [{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}]
    path = write(tmp_path / "a.jsonl", [{"messages": turns}])
    with pytest.raises(DataError, match=r"a.jsonl:1: a conversation that begins with a message of the assistant"):
        run(path, tokenizer, tmp_path / "cache", reader="messages", format="oasst")


def test_a_source_without_records_is_missing_input(tokenizer: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n\n")
    with pytest.raises(MissingInputError, match="holds no records") as caught:
        run(tmp_path / "a.jsonl", tokenizer, tmp_path / "cache")
    assert caught.value.exit_code == 66
    assert left(tmp_path / "cache") == []


def test_records_that_are_all_too_long_give_numbers_and_advice(tokenizer: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", RECORDS)
    with pytest.raises(MissingInputError) as caught:
        run(path, tokenizer, tmp_path / "cache", max_length=10)
    assert caught.value.what == "none of 60 records is left (longer than the limit: 60)"
    assert caught.value.advice is not None
    assert "text.max_length (10)" in caught.value.advice
    assert "text.truncation (drop)" in caught.value.advice


def test_records_that_are_all_turned_away_give_the_reasons(tokenizer: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"tree_state": state, "prompt": {}} for state in ("growing", "growing", "aborted")])
    with pytest.raises(MissingInputError, match=r"none of 3 records is left \(tree_state growing: 2, tree_state aborted: 1\)"):
        run(path, tokenizer, tmp_path / "cache", reader="oasst", format="oasst")


def test_an_error_for_long_records_names_each(tokenizer: str, tmp_path: Path) -> None:
    records = [*RECORDS[:3], {"instruction": "long " * 300, "response": "a"}]
    with pytest.raises(DataError, match=r"a.jsonl:4: a thread of \d+ tokens; the limit is 200"):
        run(write(tmp_path / "a.jsonl", records), tokenizer, tmp_path / "cache", truncation="error")


@pytest.mark.parametrize("truncation", ["drop", "right"])
def test_every_record_and_every_token_is_accounted_for(truncation: str, tokenizer: str, tmp_path: Path) -> None:
    records = [{**record, "response": record["response"] * (index % 9)} for index, record in enumerate(RECORDS)]
    path = write(tmp_path / "a.jsonl", records)
    prepared = run(path, tokenizer, tmp_path / "cache", truncation=truncation, max_length=120, options={"empty": "drop"})
    renderer = load_renderer(RenderSettings(tokenizer, "dolly", 120))
    sizes = []
    for record in records:
        if record["response"]:
            turns = (Message("user", record["instruction"], context=record["context"]), Message("assistant", record["response"]))
            sizes.append(len(renderer.render(Tree.path(turns)).ids))
    tally = prepared.report.sources["data"]
    assert tally.records == 60 == tally.used + tally.rejected.total()
    assert tally.rejected["empty response"] == sum(not record["response"] for record in records) > 0
    assert tally.tokens == sum(sizes) == tally.trained + tally.context + tally.cut
    assert tally.cut > 0
    assert tally.used == len(prepared.train)
    assert tally.trained == prepared.train.targets.sum()
    assert tally.trained + tally.context == prepared.train.tokens.sum()
    assert max(prepared.train.tokens) <= 120
    if truncation == "right":
        assert tally.cut == sum(max(0, size - 120) for size in sizes)
    else:
        assert tally.rejected["longer than the limit"] == sum(size > 120 for size in sizes) > 0


def test_a_lost_record_would_be_noticed(tokenizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = rendering._fit
    monkeypatch.setattr(rendering, "_fit", lambda settings, tally, tree, tokens: None if "7 + 7" in tree.messages[0].text else original(settings, tally, tree, tokens))
    with pytest.raises(AssertionError):
        run(write(tmp_path / "a.jsonl", RECORDS), tokenizer, tmp_path / "cache")


def test_the_report_reads_well_and_survives_json(tokenizer: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [*RECORDS, RECORDS[0]])
    report = run(path, tokenizer, tmp_path / "cache", validation=5).report
    assert json.loads(json.dumps(report.as_json()))["sources"]["data"]["records"] == 61
    lines = report.lines()
    assert lines[0] == "data: 61 records = 61 used, none rejected"
    assert lines[1].startswith("data: ")
    assert lines[1].endswith(" 0 cut")
    assert lines[2] == "1 record repeats an earlier one"
    assert lines[3].startswith("train: ")
    assert lines[4].startswith("validation: ")


def test_validation_is_held_back_without_a_second_rendering(tokenizer: str, tmp_path: Path, made: list[str]) -> None:
    path = write(tmp_path / "a.jsonl", RECORDS)
    whole = run(path, tokenizer, tmp_path / "cache")
    parts = run(path, tokenizer, tmp_path / "cache", validation=10, seed=5)
    other = run(path, tokenizer, tmp_path / "cache", validation=0.5, seed=6)
    assert len(made) == 1
    assert parts.validation is not None
    assert other.validation is not None
    assert (len(parts.train), len(parts.validation)) == (50, 10)
    assert sorted(content(parts.train) + content(parts.validation)) == sorted(content(whole.train))
    assert set(map(bytes, parts.train.keys)).isdisjoint(map(bytes, parts.validation.keys))
    assert parts.report.validation is not None
    assert parts.report.validation.records == 10


def sources_of(tmp_path: Path) -> Path:
    return write(tmp_path / "a.jsonl", RECORDS)


CHANGES: dict[str, dict[str, Any]] = {
    "reader": {"reader": "alpaca", "fields": {"input": "context", "output": "response"}},
    "fields": {"fields": {"context": "none"}},
    "options": {"options": {"empty": "drop"}},
    "name": {"name": "other"},
    "format": {"format": "chatml"},
    "format options": {"format": "chatml", "options_of_format": True},
    "max_length": {"max_length": 201},
    "truncation": {"truncation": "right"},
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_decides_the_tokens_makes_another_store(
    change: str, tokenizer: str, tmp_path: Path, made: list[str]
) -> None:
    path = sources_of(tmp_path)
    given = dict(CHANGES[change])
    if given.pop("options_of_format", False):
        run(path, tokenizer, tmp_path / "cache", format="chatml")
        settings = RenderSettings(tokenizer, "oasst", 200)
        spec = SourceSpec("data", str(path), "dolly")
        for options in ((), (("context", "drop"),)):
            prepare([spec], replace(settings, options=options), validation=0, seed=0, cache=tmp_path / "cache", workers=0)
        assert len(made) == 3
        return
    run(path, tokenizer, tmp_path / "cache")
    run(path, tokenizer, tmp_path / "cache", **given)
    assert len(made) == 2


def change_record(path: Path, tokenizer: Path) -> None:
    path.write_text(path.read_text().replace("It is 4.", "It is four."))


def add_record(path: Path, tokenizer: Path) -> None:
    path.write_text(path.read_text() + json.dumps(RECORDS[0]) + "\n")


def swap_records(path: Path, tokenizer: Path) -> None:
    first, second, *rest = path.read_text().splitlines()
    path.write_text("\n".join([second, first, *rest]))


def change_tokenizer(path: Path, tokenizer: Path) -> None:
    write_tokenizer(tokenizer, prefixed(), bos="<s>", eos="</s>", unk="<unk>")


@pytest.mark.parametrize("change", [change_record, add_record, swap_records, change_tokenizer])
def test_changed_content_makes_another_store(
    change: Callable[[Path, Path], None], tokenizer: str, tmp_path: Path, made: list[str]
) -> None:
    path, copied = sources_of(tmp_path), tmp_path / "tokenizer"
    shutil.copytree(tokenizer, copied)
    before = run(path, str(copied), tmp_path / "cache")
    change(path, copied)
    after = run(path, str(copied), tmp_path / "cache")
    assert len(made) == 2
    assert before.key != after.key


@pytest.mark.parametrize("changed", ["code", "library"])
def test_other_code_makes_another_store(
    changed: str, tokenizer: str, tmp_path: Path, made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = sources_of(tmp_path)
    run(path, tokenizer, tmp_path / "cache")
    if changed == "code":
        monkeypatch.setattr(prepare_module, "_code_digest", lambda: "another")
    else:
        monkeypatch.setattr(prepare_module.tokenizers, "__version__", "99")
    run(path, tokenizer, tmp_path / "cache")
    assert len(made) == 2


def test_what_does_not_matter_finds_the_store(tokenizer: str, tmp_path: Path, made: list[str]) -> None:
    path = sources_of(tmp_path)
    first = run(path, tokenizer, tmp_path / "cache")
    moved = tmp_path / "elsewhere" / "b.jsonl"
    moved.parent.mkdir()
    path.rename(moved)
    copied = tmp_path / "tokenizer"
    shutil.copytree(tokenizer, copied)
    second = run(moved, str(copied), tmp_path / "cache", seed=9, validation=3, workers=2, progress=lambda *told: None)
    assert len(made) == 1
    assert first.key == second.key
    assert first.data == second.data


@pytest.mark.parametrize("name", [*(f"{name}.bin" for name in LAYOUT), "index.json"])
def test_a_damaged_store_is_made_again(name: str, tokenizer: str, tmp_path: Path, made: list[str]) -> None:
    path = sources_of(tmp_path)
    first = run(path, tokenizer, tmp_path / "cache")
    expected = arrays(first)
    file = first.directory / "store" / name
    file.write_bytes(file.read_bytes()[:-3] + b"xyz")
    second = run(path, tokenizer, tmp_path / "cache")
    assert len(made) == 2
    assert arrays(second) == expected
    run(path, tokenizer, tmp_path / "cache")
    assert len(made) == 2


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), ValueError("a fault")])
@pytest.mark.parametrize("method", ["append", "finish"])
def test_a_failure_in_the_middle_leaves_nothing(
    method: str, error: BaseException, tokenizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = sources_of(tmp_path)
    monkeypatch.setattr(prepare_module, "ROWS_IN_CHUNK", 20)
    original, calls = getattr(StoreWriter, method), []

    def fail(writer: StoreWriter, *given: Any) -> None:
        calls.append(method)
        if method == "finish" or len(calls) == 2:
            raise error
        original(writer, *given)

    with monkeypatch.context() as planted:
        planted.setattr(StoreWriter, method, fail)
        expected = StorageError if isinstance(error, OSError) else type(error)
        with pytest.raises(expected):
            run(path, tokenizer, tmp_path / "cache")
    assert left(tmp_path / "cache") == []
    assert len(run(path, tokenizer, tmp_path / "cache").train) == 60


SCRIPT = """
import os, signal, sys
from pathlib import Path
from tunesmith.data import prepare as module
from tunesmith.data.rendering import RenderSettings
from tunesmith.data.sources import SourceSpec
from tunesmith.data.store import StoreWriter

path, tokenizer, cache, mode = sys.argv[1:]
module.ROWS_IN_CHUNK = 20
if mode == "die":
    append, calls = StoreWriter.append, []
    def fatal(writer, chunk):
        append(writer, chunk)
        calls.append(1)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
    StoreWriter.append = fatal
original = module._make
def make(*given):
    print("made", flush=True)
    original(*given)
module._make = make
found = module.prepare([SourceSpec("data", path, "dolly")], RenderSettings(tokenizer, "dolly", 200), validation=0, seed=0, cache=Path(cache), workers=0)
print(len(found.train), found.train.tokens.sum())
"""


def start(path: Path, tokenizer: str, cache: Path, mode: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCRIPT, str(path), tokenizer, str(cache), mode]
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)


def test_a_process_that_is_killed_leaves_no_store_and_its_remains_are_cleared(tokenizer: str, tmp_path: Path) -> None:
    path, cache = sources_of(tmp_path), tmp_path / "cache"
    killed = start(path, tokenizer, cache, "die")
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert list(cache.glob("*/.unfinished-*"))
    assert not list(cache.glob("*/store"))
    prepared = run(path, tokenizer, cache)
    assert len(prepared.train) == 60
    assert not list(cache.glob("*/.unfinished-*"))


def test_processes_at_once_make_one_store(tokenizer: str, tmp_path: Path) -> None:
    path = sources_of(tmp_path)
    started = [start(path, tokenizer, tmp_path / "cache", "make") for _ in range(3)]
    told = [process.communicate(timeout=120)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0, 0]
    assert sum("made" in text for text in told) == 1
    assert len({text.splitlines()[-1] for text in told}) == 1


def test_several_sources_keep_their_order_and_their_counts(tokenizer: str, tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", RECORDS[:10])
    write(tmp_path / "b.json", [{"instruction": "a", "input": "", "output": "b"}, {"instruction": "a", "input": "", "output": ""}])
    specs = [
        SourceSpec("one", str(tmp_path / "a.jsonl"), "dolly"),
        SourceSpec("two", str(tmp_path / "b.json"), "alpaca", options={"empty": "drop"}),
    ]
    settings = RenderSettings(tokenizer, "dolly", 200)
    prepared = prepare(specs, settings, validation=0, seed=0, cache=tmp_path / "cache", workers=0)
    assert prepared.train.sources == ("one", "two")
    assert prepared.train.source.tolist() == [0] * 10 + [1]
    assert {name: (tally.records, tally.used) for name, tally in prepared.report.sources.items()} == {"one": (10, 10), "two": (2, 1)}
    assert prepared.report.sources["two"].rejected == Counter({"empty output": 1})
    assert set(prepared.data) == {"one", "two"}
    with pytest.raises(RecipeError, match="same name"):
        prepare([specs[0], specs[0]], settings, validation=0, seed=0, cache=tmp_path / "cache")


def test_faults_of_the_recipe_come_before_anything_is_read(tokenizer: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="data source data: there is no reader 'x'"):
        run(tmp_path / "missing.jsonl", tokenizer, tmp_path / "cache", reader="x")
    with pytest.raises(MissingInputError, match="does not exist"):
        run(tmp_path / "missing.jsonl", tokenizer, tmp_path / "cache")


def test_a_tokenizer_that_changes_meanwhile_is_noticed(tokenizer: str) -> None:
    with pytest.raises(DataError, match="the tokenizer changed"):
        rendering._worker_renderer(RenderSettings(tokenizer, "dolly", 200), "another fingerprint")


@pytest.mark.usefixtures("small_chunks")
def test_progress_is_told_up_to_the_end(tokenizer: str, tmp_path: Path) -> None:
    told: list[tuple[int, int | None, str]] = []
    path = write(tmp_path / "a.jsonl", RECORDS)
    run(path, tokenizer, tmp_path / "cache", progress=lambda *given: told.append(given))
    assert len(told) > 5
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)
    assert told[-1] == (1000, 1000, "data: 60 records")
    told.clear()
    run(path, tokenizer, tmp_path / "cache", progress=lambda *given: told.append(given))
    assert told == []


def test_few_chunks_wait_at_a_time(tokenizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "SMALL", 2)
    settings = RenderSettings(tokenizer, "dolly", 200)
    readers = (rendering.ReaderSettings("data", "dolly", (), ()),)
    renderer = load_renderer(settings)
    work = rendering.Work(settings, renderer.tokenizer.fingerprint, readers)
    taken = []

    def chunks() -> Any:
        for number in range(30):
            taken.append(number)
            yield [rendering.SourceRow(number, 0, f"a:{number}", RECORDS[number])]

    for index, _ in enumerate(rendering.render_all(work, renderer, chunks(), 2)):
        assert len(taken) <= index + 6


def test_trees_keep_their_branches(tokenizer: str, tmp_path: Path) -> None:
    replies = [{"text": text, "role": "assistant", "message_id": text} for text in ("one", "two", "three")]
    prompt = {"text": "q", "role": "prompter", "message_id": "q", "review_result": True, "replies": replies}
    path = write(tmp_path / "a.jsonl", [{"tree_state": "ready_for_export", "prompt": prompt}])
    prepared = run(path, tokenizer, tmp_path / "cache", reader="oasst", format="oasst")
    assert prepared.train.threads.tolist() == [3]
    assert len(prepared.train.tree(0).segments) == 4


def test_real_dolly_is_prepared_and_found_again(real_data: Callable[[str], Path], tmp_path: Path, made: list[str]) -> None:
    path, pythia = real_data("dolly/dolly-6000.jsonl"), str(real_data("tokenizers/pythia"))
    first, second = (run(path, pythia, tmp_path, max_length=1024, validation=0.05) for _ in range(2))
    assert len(made) == 1
    assert first.report == second.report
    tally = first.report.sources["data"]
    assert tally.records == 6000
    assert first.validation is not None
    assert len(first.train) + len(first.validation) == tally.used
    assert np.array_equal(first.train.keys, second.train.keys)


def test_real_trees_are_prepared(real_data: Callable[[str], Path], tmp_path: Path) -> None:
    path, pythia = real_data("oasst/en_100_tree.jsonl.gz"), str(real_data("tokenizers/pythia"))
    prepared = run(path, pythia, tmp_path, reader="oasst", format="oasst", max_length=2048, options={"synthetic": True})
    assert len(prepared.train) == 100
    assert prepared.train.threads.sum() > 300
