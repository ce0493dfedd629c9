"""From sources to stores: what goes in comes out, all is counted, and faults come with their places."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.data.small_runs import RECORDS, arrays, content, left, run, write
from tunesmith.data.dataset import rendering
from tunesmith.data.dataset.prepare import prepare
from tunesmith.data.dataset.rendering import RenderSettings, load_renderer
from tunesmith.data.readers.source_config import SourceConfig
from tunesmith.errors import DataError, InternalError, MissingInputError, RecipeError
from tunesmith.text.tree import Message, Tree


def test_the_store_has_the_rendered_records_in_order(tokenizer: str, tmp_path: Path) -> None:
    prepared = run(write(tmp_path / "a.jsonl", RECORDS), tokenizer, tmp_path / "cache")
    renderer = load_renderer(RenderSettings(tokenizer, "dolly", 200))
    expected = []
    for record in RECORDS:
        turns = (
            Message("user", record["instruction"], context=record["context"]),
            Message("assistant", record["response"]),
        )
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


def bad_lines(count: int) -> list[str]:
    lines = [json.dumps(record) for record in RECORDS]
    faults = [
        "{",
        '{"instruction": "a"}',
        '{"instruction": "", "response": "b"}',
        '{"instruction": NaN}',
        '{"instruction": "a", "response": 1}',
    ]
    return lines + [faults[index % len(faults)] for index in range(count)]


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
    assert lines[0] == "50 records cannot be used, and nothing was stored:"
    assert [line.split(": ")[0].strip() for line in lines[1:]] == [f"{path}:{number}" for number in range(61, 66)]
    assert f"field 'response' is missing (and in 9 more, such as {path}:67); the columns are instruction" in lines[2]
    assert lines[5].endswith("; fix these records, or do what their messages advise")
    assert left(tmp_path / "cache") == []


def test_causes_beyond_twenty_are_counted_by_their_kind(tokenizer: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(f'{{"instruction": {"x" * number}}}\n{{"key {number}": 1}}\n' for number in range(1, 31)))
    with pytest.raises(DataError) as caught:
        run(path, tokenizer, tmp_path / "cache", fields={"instruction": "question"})
    lines = str(caught.value).splitlines()
    assert lines[0] == "60 records cannot be used, and nothing was stored:"
    assert len(lines) < 22


@pytest.mark.parametrize(("good", "says"), [(0, "in all 30 records"), (60, "in 30 of 90 records, also {0}:62, {0}:63")])
def test_one_cause_is_one_line(good: int, says: str, tokenizer: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    lines = [json.dumps(record) for record in RECORDS[:good]] + ['{"question": "a", "reply": "b"}'] * 30
    path.write_text("\n".join(lines))
    with pytest.raises(DataError) as caught:
        run(path, tokenizer, tmp_path / "cache")
    message = str(caught.value)
    what = f"the fields 'instruction' and 'response' are missing ({says.format(path)}"
    assert message.startswith(f"{path}:{good + 1}: {what}")
    assert message.endswith(
        "; nothing was stored); the columns are question, reply; set fields to {instruction: question, response: reply}"
    )


def test_records_without_a_trained_reply_are_not_called_long(tokenizer: str, tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "train": False}]
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"messages": turns}))
    with pytest.raises(MissingInputError, match=r"nothing to train on: 1.; no reply is trained: see text.targets"):
        run(path, tokenizer, tmp_path / "cache", reader="messages", format="chatml")


@pytest.mark.parametrize(
    ("turn", "says"),
    [
        ({"role": "developer", "content": "a"}, "options can rename them, such as options={system: developer}"),
        ({"role": "assistant", "content": "<think>a</think>b", "reasoning_content": "a"}, "leave one of the two out"),
    ],
)
def test_a_message_that_has_two_meanings_is_refused(
    turn: dict[str, str], says: str, tokenizer: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"messages": [{"role": "user", "content": "a"}, turn]}))
    with pytest.raises(DataError) as error:
        run(path, tokenizer, tmp_path / "cache", reader="messages", format="chatml")
    assert says in str(error.value)


def test_a_broken_file_is_listed_with_the_faults_before_it(tokenizer: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('[{"instruction": "a"},\n{"instruction": "a", "response": "b"},\n{"instruc')
    with pytest.raises(DataError) as caught:
        run(path, tokenizer, tmp_path / "cache")
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("2 records cannot be used")
    assert lines[1].startswith(f"  {path}:1[0]: field 'response' is missing")
    assert lines[2].startswith(f"  {path}:3[2]: the record breaks off")


def test_what_the_format_refuses_is_a_fault_with_a_place(tokenizer: str, tmp_path: Path) -> None:
    turns = [{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}]
    path = write(tmp_path / "a.jsonl", [{"messages": turns}])
    with pytest.raises(DataError, match=r"a.jsonl:1: a conversation that begins with a message of the assistant"):
        run(path, tokenizer, tmp_path / "cache", reader="messages", format="oasst")


def test_a_source_without_records_is_missing_input(tokenizer: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n\n")
    with pytest.raises(MissingInputError, match="has no records") as caught:
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


def test_records_that_are_all_filtered_give_the_reasons(tokenizer: str, tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.jsonl", [{"tree_state": state, "prompt": {}} for state in ("growing", "growing", "aborted")]
    )
    with pytest.raises(
        MissingInputError, match=r"none of 3 records is left \(tree_state growing: 2, tree_state aborted: 1\)"
    ):
        run(path, tokenizer, tmp_path / "cache", reader="oasst", format="oasst")


def test_an_error_for_long_records_names_each(tokenizer: str, tmp_path: Path) -> None:
    records = [*RECORDS[:3], {"instruction": "long " * 300, "response": "a"}]
    with pytest.raises(DataError, match=r"a.jsonl:4: a thread of \d+ tokens; the limit is 200"):
        run(write(tmp_path / "a.jsonl", records), tokenizer, tmp_path / "cache", truncation="error")


@pytest.mark.parametrize("truncation", ["drop", "right", "left", "window"])
def test_every_record_and_every_token_is_accounted_for(truncation: str, tokenizer: str, tmp_path: Path) -> None:
    records = [{**record, "response": record["response"] * (index % 9)} for index, record in enumerate(RECORDS)]
    path = write(tmp_path / "a.jsonl", records)
    prepared = run(
        path, tokenizer, tmp_path / "cache", truncation=truncation, max_length=120, options={"empty": "drop"}
    )
    renderer = load_renderer(RenderSettings(tokenizer, "dolly", 120))
    sizes = []
    for record in records:
        if record["response"]:
            turns = (
                Message("user", record["instruction"], context=record["context"]),
                Message("assistant", record["response"]),
            )
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
    if truncation != "drop":
        assert tally.cut == sum(max(0, size - 120) for size in sizes)
    else:
        assert tally.rejected["longer than the limit"] == sum(size > 120 for size in sizes) > 0


def test_a_lost_record_would_be_noticed(tokenizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = rendering._fit
    monkeypatch.setattr(
        rendering,
        "_fit",
        lambda settings, counts, tree, *rest: (
            None if "7 + 7" in tree.messages[0].text else original(settings, counts, tree, *rest)
        ),
    )
    with pytest.raises(InternalError, match="60 records were read, but 59 are accounted for"):
        run(write(tmp_path / "a.jsonl", RECORDS), tokenizer, tmp_path / "cache")


def test_the_report_reads_well_and_survives_json(tokenizer: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [*RECORDS, RECORDS[0]])
    report = run(path, tokenizer, tmp_path / "cache", validation=5).report
    assert json.loads(json.dumps(report.as_json()))["sources"]["data"]["records"] == 61
    lines = report.lines()
    assert lines[0] == "data: 61 records were read and 61 are used"
    assert lines[1].startswith("data: ")
    assert lines[1].endswith(" are only read"), "nothing was cut"
    assert lines[2] == "1 record repeats an earlier one and is kept"
    assert lines[3].startswith("train: ")
    assert lines[4].startswith("validation: ")


def test_several_sources_keep_their_order_and_their_counts(tokenizer: str, tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", RECORDS[:10])
    write(
        tmp_path / "b.json",
        [{"instruction": "a", "input": "", "output": "b"}, {"instruction": "a", "input": "", "output": ""}],
    )
    specs = [
        SourceConfig("one", str(tmp_path / "a.jsonl"), "dolly"),
        SourceConfig("two", str(tmp_path / "b.json"), "alpaca", options={"empty": "drop"}),
    ]
    settings = RenderSettings(tokenizer, "dolly", 200)
    prepared = prepare(specs, settings, validation=0, seed=0, cache=tmp_path / "cache", workers=0)
    assert prepared.train.sources == ("one", "two")
    assert prepared.train.source.tolist() == [0] * 10 + [1]
    assert {name: (tally.records, tally.used) for name, tally in prepared.report.sources.items()} == {
        "one": (10, 10),
        "two": (2, 1),
    }
    assert prepared.report.sources["two"].rejected == Counter({"empty output": 1})
    assert set(prepared.data) == {"one", "two"}
    with pytest.raises(RecipeError, match="same name"):
        prepare([specs[0], specs[0]], settings, validation=0, seed=0, cache=tmp_path / "cache")


def test_faults_of_the_recipe_come_before_anything_is_read(tokenizer: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="data source data: there is no reader 'x'"):
        run(tmp_path / "missing.jsonl", tokenizer, tmp_path / "cache", reader="x")
    with pytest.raises(MissingInputError, match="does not exist"):
        run(tmp_path / "missing.jsonl", tokenizer, tmp_path / "cache")


def test_trees_keep_their_branches(tokenizer: str, tmp_path: Path) -> None:
    replies = [{"text": text, "role": "assistant", "message_id": text} for text in ("one", "two", "three")]
    prompt = {"text": "q", "role": "prompter", "message_id": "q", "review_result": True, "replies": replies}
    path = write(tmp_path / "a.jsonl", [{"tree_state": "ready_for_export", "prompt": prompt}])
    prepared = run(path, tokenizer, tmp_path / "cache", reader="oasst", format="oasst")
    assert prepared.train.threads.tolist() == [3]
    assert len(prepared.train.tree(0).segments) == 4


def test_real_trees_are_prepared(real_data: Callable[[str], Path], tmp_path: Path) -> None:
    path, pythia = real_data("oasst/en_100_tree.jsonl.gz"), str(real_data("tokenizers/pythia"))
    prepared = run(path, pythia, tmp_path, reader="oasst", format="oasst", max_length=2048, options={"synthetic": True})
    assert len(prepared.train) == 100
    assert prepared.train.threads.sum() > 300


def test_a_prefix_that_fills_the_limit_is_refused(tokenizer: str) -> None:
    settings = RenderSettings(tokenizer, "oasst", 200, options=(("prefix", "word " * 300),))
    with pytest.raises(
        RecipeError, match=r"text\.max_length: the first \d+ tokens of every text fill the limit of 200"
    ):
        load_renderer(settings)


@pytest.mark.parametrize("truncation", ["drop", "right"])
def test_inputs_and_replies_have_limits_of_their_own(truncation: str, tokenizer: str, tmp_path: Path) -> None:
    records = [
        {"instruction": "What? " * (number % 7 + 1), "context": "", "response": "It is. " * (number % 5 + 1)}
        for number in range(35)
    ]
    limits = {"max_length": 20, "max_target_length": 12}
    path = write(tmp_path / "a.jsonl", records)
    found = run(path, tokenizer, tmp_path / "cache", truncation=truncation, format="t5-dolly", **limits)
    renderer = load_renderer(RenderSettings(tokenizer, "t5-dolly", 20))
    sizes = []
    for record in records:
        asked = Message("user", record["instruction"])
        whole = renderer.render(Tree.path([asked, Message("assistant", record["response"])]))
        sizes.append((len(renderer.prompt([asked])), int(whole.targets().size)))
    tally = found.report.sources["data"]
    assert tally.tokens == sum(map(sum, sizes)) == tally.trained + tally.context + tally.cut
    if truncation == "right":
        assert tally.used == 35
        assert tally.context == sum(min(size, 20) for size, _ in sizes)
        assert tally.trained == sum(min(size, 12) for _, size in sizes)
        assert tally.cut > 0
    else:
        fit = [(size, reply) for size, reply in sizes if size <= 20 and reply <= 12]
        assert 0 < len(fit) == tally.used < 35
        assert (tally.context, tally.trained) == tuple(map(sum, zip(*fit, strict=True)))
        assert tally.rejected["longer than the limit"] == 35 - len(fit)
