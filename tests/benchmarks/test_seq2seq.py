"""The benchmark of encoder-decoders: both sides get the same tokens; ratios are of medians."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from benchmarks.dolly_like import generate_records
from benchmarks.seq2seq import COMPARISON
from benchmarks.seq2seq_inputs import INPUTS, MAX_INPUT, MAX_TARGET, as_input_target
from benchmarks.seq2seq_tunesmith import build_store
from tunesmith.batch.example import Example
from tunesmith.batch.padded import split_inputs_and_replies


def test_the_text_that_the_trainer_gets_gives_the_tokens_that_we_store(tmp_path: Path) -> None:
    trainer = pytest.importorskip("benchmarks.seq2seq_trainer", reason="the extra `bench` is not installed")
    INPUTS.write(tmp_path, None, None, 60, model=False)
    theirs = trainer.tokenize_texts(tmp_path, AutoTokenizer.from_pretrained(tmp_path / "tokenizer"))
    store = build_store(tmp_path, tmp_path / "store")
    assert len(store) == len(theirs) == 60
    longest = 0
    for number in range(60):
        ours = split_inputs_and_replies(Example(number, store.tree(number)))
        assert ours.inputs[0].tolist() == theirs[number]["input_ids"]
        assert ours.replies[0].ids.tolist() == theirs[number]["labels"]
        longest = max(longest, len(ours.replies[0].ids))
        assert len(ours.inputs[0]) <= MAX_INPUT
    assert longest == MAX_TARGET  # some are cut, and still end with the end token


def test_input_and_target_have_the_marks_of_the_format_but_no_end_token() -> None:
    record = next(record for record in generate_records(20) if record.context)
    assert as_input_target(record) == {
        "input": f"{record.instruction} <_LB_> <_LB_> {record.context}",
        "target": record.response,
    }


def test_ratios_are_of_medians_over_the_rounds() -> None:
    def rounds(*speeds: float, memory: int) -> list[dict[str, Any]]:
        return [{"targets_per_second": speed, "peak_memory": memory} for speed in speeds]

    slow = {name: rounds(5, memory=99) for name in COMPARISON.runners}
    found = COMPARISON.metrics(
        {
            **slow,
            "ours": rounds(70, 80, 1000, memory=10),
            "trainer": rounds(10, 1, 11, memory=40),
            "trainer_grouped": rounds(20, 20, 20, memory=99),
        }
    )
    assert (found["ratio"], found["ratio_grouped"], found["ratio_best"], found["memory_ratio"]) == (8.0, 4.0, 4.0, 0.25)
