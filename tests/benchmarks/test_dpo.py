"""The benchmark of preferences: both sides get the same tokens, lengths follow the table, ratios are of medians."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from benchmarks.dolly_like import SHARES
from benchmarks.dpo import COMPARISON
from benchmarks.dpo_inputs import INPUTS, as_preference, read_preferences
from benchmarks.dpo_tunesmith import MAX_LENGTH, build_store, tokens_of
from benchmarks.measurement import with_preparation
from benchmarks.sft_inputs import END
from benchmarks.ultrafeedback_like import CHOSEN, LONGEST_PROMPT, REJECTED, generate_pairs


def test_replies_are_as_long_as_the_table_says_and_those_of_a_pair_alike() -> None:
    pairs = generate_pairs(1500)
    assert pairs == generate_pairs(1500)
    lengths = np.array([[len(pair.chosen.split()), len(pair.rejected.split())] for pair in pairs])
    for column, table in zip(lengths.T, (CHOSEN, REJECTED), strict=True):
        for share, expected in list(zip(SHARES, table, strict=True))[2:11]:
            assert np.quantile(column, share) == pytest.approx(expected, rel=0.2, abs=2)
    assert np.corrcoef(np.log(lengths.T))[0, 1] == pytest.approx(0.48, abs=0.1)
    assert max(len(pair.prompt.split()) for pair in pairs) <= LONGEST_PROMPT


def test_trl_gets_replies_that_end_and_a_prompt_that_asks() -> None:
    written = as_preference(generate_pairs(1)[0])
    assert written["prompt"].endswith("### Response:\n")
    assert written["chosen"].endswith(END)
    assert written["rejected"].endswith(END)
    assert written["chosen"] != written["rejected"]


def test_pairs_that_nothing_can_be_learned_from_are_left_out(tmp_path: Path) -> None:
    rows = [("a", "b", "c"), (" ", "b", "c"), ("a", "b", "b"), ("a", "", "b"), ("d", "e", "f"), ("g", "h", "i")]
    lines = [json.dumps(dict(zip(("prompt", "chosen", "rejected"), row, strict=True))) for row in rows]
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines) + "\n")
    assert [pair.prompt for pair in read_preferences(tmp_path / "pairs.jsonl", 2)] == ["a", "d"]


def test_the_text_that_the_trainer_gets_gives_the_tokens_that_we_store(tmp_path: Path) -> None:
    INPUTS.write(tmp_path, None, None, 40, model=False)
    store = build_store(tmp_path, tmp_path / "store")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "tokenizer", eos_token=END)
    rows = [json.loads(line) for line in (tmp_path / "pairs.jsonl").read_text().splitlines()]
    assert len(store) == len(rows) == 40
    cut = 0
    for number, row in enumerate(rows):
        prompt = tokenizer(row["prompt"]).input_ids
        whole = [tokenizer(row["prompt"] + row[side]).input_ids for side in ("chosen", "rejected")]
        assert all(ids[: len(prompt)] == prompt for ids in whole)
        assert tokens_of(store.tree(number)) == [len(prompt), *(ids[:MAX_LENGTH] for ids in whole)]
        assert all(ids[-1] == tokenizer.eos_token_id for ids in whole)
        cut += any(len(ids) > MAX_LENGTH for ids in whole)
    assert cut


def test_what_is_done_once_is_shared_out_among_all_that_is_counted() -> None:
    assert with_preparation([1.0, 2.0], [8, 4], 6.0, 24) == [3.0, 3.0]


def test_ratios_are_of_medians_over_the_rounds() -> None:
    def rounds(*speeds: float, memory: int) -> list[dict[str, Any]]:
        return [{"pairs_per_second": speed, "peak_memory": memory} for speed in speeds]

    slow = {name: rounds(5, memory=99) for name in COMPARISON.runners}
    found = COMPARISON.metrics(
        {
            **slow,
            "ours": rounds(70, 80, 1000, memory=10),
            "trl_default": rounds(10, 1, 11, memory=40),
            "trl_precomputed": rounds(20, 20, 20, memory=20),
        }
    )
    assert (found["ratio"], found["ratio_precomputed"], found["ratio_kept"], found["ratio_best"]) == (
        8.0,
        4.0,
        16.0,
        4.0,
    )
    assert (found["memory_ratio"], found["memory_ratio_precomputed"]) == (0.25, 0.5)
