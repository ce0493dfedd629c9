"""The benchmarks' arithmetic and inputs; speed itself is never asserted."""

from __future__ import annotations

import json
import random
import statistics
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, GPTNeoXConfig

from benchmarks.dolly_like import CONTEXT_SHARE, RESPONSE_WITHOUT_CONTEXT, SHARES, draw_length, generate_records
from benchmarks.measurement import Clock
from benchmarks.operations import PASSES, shape_of, useful_operations
from benchmarks.sft import COMPARISON
from benchmarks.sft_inputs import END, INPUTS, as_completion
from benchmarks.sft_tunesmith import MAX_LENGTH, build_store
from tunesmith.text.tokenizer.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("inputs")
    INPUTS.write(directory, None, None, 24, model=False)
    return directory


def test_drawn_lengths_have_the_quantiles_of_the_table() -> None:
    draw = random.Random(0)
    lengths = sorted(draw_length(draw, RESPONSE_WITHOUT_CONTEXT) for _ in range(4000))
    for share, expected in list(zip(SHARES, RESPONSE_WITHOUT_CONTEXT, strict=True))[2:11]:
        assert lengths[int(share * 4000)] == pytest.approx(expected, rel=0.15, abs=2)


def test_records_are_the_same_on_every_run_and_some_have_a_context() -> None:
    records = generate_records(400)
    assert records == generate_records(400)
    assert statistics.mean(bool(record.context) for record in records) == pytest.approx(CONTEXT_SHARE, abs=0.08)


def test_the_completion_that_trl_gets_ends_where_a_reply_ends() -> None:
    pair = as_completion(generate_records(1)[0])
    assert pair["prompt"].endswith("### Response:\n")
    assert pair["completion"].endswith("\n\n" + END)


def test_prompt_and_completion_text_give_the_tokens_that_we_store(inputs: Path) -> None:
    store = build_store(inputs, inputs / "store")
    controls = Tokenizer.load(str(inputs / "tokenizer"))
    names = ("### End", "### Instruction:", "### Response:\n")
    pairs = [json.loads(line) for line in (inputs / "pairs.jsonl").read_text().splitlines()]
    assert len(store) == len(pairs)
    for index, pair in enumerate(pairs):
        ids = store.tree(index).ids.tolist()
        shown = controls.decode(ids, skip_controls=False)
        assert (pair["prompt"] + pair["completion"]).startswith(shown)
        assert len(ids) == MAX_LENGTH or shown.endswith(END)
        assert sum(ids.count(controls.control(name)) for name in names) <= 3


def test_every_generated_word_is_one_token(inputs: Path) -> None:
    tokenizer = Tokenizer.load(str(inputs / "tokenizer"))
    record = next(each for each in generate_records(24) if len(each.response.split()) > 20)
    words = len(record.response.split())
    assert len(tokenizer.encode(" " + record.response)) == pytest.approx(words, rel=0.1)


def test_useful_operations_are_those_that_torch_counts_for_a_forward_pass() -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    configuration = GPTNeoXConfig(vocab_size=100, **sizes)
    model = AutoModelForCausalLM.from_config(configuration, attn_implementation="eager")
    length = 16
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, length, dtype=torch.long))
    # The eager model multiplies every token with every other; only the causal half is useful.
    unused = 2 * (4 * 32 * length * length - 4 * 32 * length * (length + 1) // 2)
    rotary = 2 * length * (configuration.hidden_size // 4 // 4 // 2)  # positions by frequencies, no weights
    counted = counter.get_total_flops() - unused
    assert useful_operations(shape_of(model), [length], length) / PASSES == pytest.approx(counted, abs=2 * rotary)


def test_the_clock_leaves_out_the_warm_up_and_the_pauses() -> None:
    clock = Clock(ends=[0.0, 10.0, 11.0, 14.0], paused=[0.0, 0.0, 0.0, 2.0])
    assert clock.seconds() == [1.0, 1.0]


def test_ratios_are_of_medians_over_the_rounds() -> None:
    details = {"operations_per_second": 50.0, "multiplication_rate": 100.0}

    def rounds(*speeds: float, memory: int) -> list[dict[str, object]]:
        return [{"tokens_per_second": speed, "peak_memory": memory, "details": details} for speed in speeds]

    slow = {name: rounds(5, memory=99) for name in COMPARISON.runners}
    found = COMPARISON.metrics(
        {
            **slow,
            "ours": rounds(70, 80, 1000, memory=10),
            "trl_default": rounds(10, 1, 11, memory=40),
            "trl_packing": rounds(20, 20, 20, memory=99),
        }
    )
    expected = SimpleNamespace(
        ratio_default=8.0, ratio_packing=4.0, ratio_kept=16.0, ratio_best=4.0, memory_ratio=0.25, gemm_share=0.5
    )
    for name, value in vars(expected).items():
        assert found[name] == value
    assert (found["tokens_per_second_ours"], found["peak_memory_trl_packing"]) == (80, 99)
