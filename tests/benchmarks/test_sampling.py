"""The benchmark of generation: lengths are those of the published report, greedy peers give our tokens, steps count."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, GPTNeoXConfig, PreTrainedModel

from benchmarks.dolly_like import SHARES
from benchmarks.sampling import count_steps, generate_ours, make_requests
from benchmarks.sampling_inputs import PROMPT, PROMPTS, REPLIES, REPLY, SETTINGS, VOCABULARY, make_jobs, sampling_of
from benchmarks.sampling_peers import configuration

REPORT = "reports/sft-4.2023-04-03_andreaskoepf_oasst-sft-4-pythia-12b-epoch-3_5_sampling_noprefix_lottery.json"


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    config = GPTNeoXConfig(vocab_size=VOCABULARY, **sizes, initializer_range=0.2)
    return AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").eval()


def test_lengths_are_those_of_the_report(real_data: Callable[[str], Path]) -> None:
    tokenizer = Tokenizer.from_file(str(real_data("tokenizers/pythia/tokenizer.json")))
    report = json.loads(real_data(REPORT).read_text(encoding="utf-8"))
    prompts = sorted(len(tokenizer.encode(each["prompt"]).ids) + 3 for each in report["prompts"])
    outputs = [
        output.replace("<|endoftext|>", "")
        for each in report["prompts"]
        for result in each["results"]
        for output in result["outputs"]
    ]
    replies = sorted(min(len(encoded.ids) + 1, 400) for encoded in tokenizer.encode_batch(outputs))
    assert (len(prompts), len(replies)) == (PROMPTS, REPLIES)
    for lengths, table in ((prompts, PROMPT), (replies, REPLY)):
        found = [lengths[min(int(share * len(lengths)), len(lengths) - 1)] for share in SHARES]
        assert found == pytest.approx(list(table), rel=0.05, abs=2)
    assert statistics.mean(job.length for job in make_jobs(500)) == pytest.approx(statistics.mean(replies), rel=0.02)


def test_a_configuration_means_the_same_on_both_sides() -> None:
    for name in SETTINGS:
        ours, theirs = sampling_of(name, 7), configuration(name, 7)
        assert theirs.max_new_tokens == ours.max_new_tokens == 7
        assert theirs.do_sample == ours.do_sample
        assert (theirs.repetition_penalty, theirs.min_new_tokens) == (ours.repetition_penalty, ours.min_new_tokens)
        if ours.do_sample:
            assert (theirs.temperature, theirs.top_k, theirs.top_p) == (ours.temperature, ours.top_k, ours.top_p)
    assert sampling_of("greedy", 2).min_new_tokens == configuration("greedy", 2).min_new_tokens == 2


def test_the_configurations_are_those_of_the_report(real_data: Callable[[str], Path]) -> None:
    report = json.loads(real_data(REPORT).read_text(encoding="utf-8"))
    written = {result["sampling_config"]: result["sampling_params"] for result in report["prompts"][0]["results"]}
    for name, sampling in SETTINGS.items():
        assert {key: getattr(sampling, key) for key in written[name]} == written[name]
    assert [sampling.top_k for sampling in SETTINGS.values()] == [0, 50, 50], "generate fills in 50"


def test_the_greedy_peer_generates_our_tokens(model: PreTrainedModel) -> None:
    jobs = make_jobs(6, scale=0.02)
    ours = generate_ours(model, make_requests(jobs, "greedy"), 4)
    for number, job in enumerate(jobs):
        ids = torch.tensor([job.prompt])
        theirs = model.generate(
            ids, attention_mask=torch.ones_like(ids), generation_config=configuration("greedy", job.length)
        )
        assert theirs[0, len(job.prompt) :].tolist() == list(ours[number])


def test_steps_of_refilled_rows_are_few() -> None:
    assert 1 <= count_steps(8, replies=400) < 1.05
