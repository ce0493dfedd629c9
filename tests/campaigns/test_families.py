"""A sample of the campaign over all families, and faults that it must find.

The reference is written by a process that imports only torch and transformers (tests/campaigns/stock_process.py).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.campaigns import families
from tests.campaigns.families import FamilyResult, compare_replies, compare_training, run_stock
from tests.campaigns.family_models import tiny_model
from tests.conftest import REPOSITORY
from tunesmith.batch.example import Example
from tunesmith.batch.packed import assemble_packed
from tunesmith.errors import RecipeError
from tunesmith.model import attention as attention_module
from tunesmith.model import policy as policy_module
from tunesmith.model.attention_scores import ScoreTerms
from tunesmith.model.load import load_model
from tunesmith.model.logits import LogitRule, measure_logit_rule
from tunesmith.model.policy import Policy
from tunesmith.verify.self_test import SelfTestResult, self_test

pytestmark = pytest.mark.filterwarnings("ignore")

TREE = ("llama", "gpt_neox", "gpt2", "qwen3", "gemma2", "gemma3_text", "granite", "cohere", "gpt_oss", "mixtral")
EXPECTED: Mapping[str, tuple[str, str]] = {
    **dict.fromkeys(TREE, ("tree", "cached")),
    "bloom": ("threads", "cached"),
    "phimoe": ("threads", "cached"),
    "lfm2": ("threads", "cached"),
    "mamba": ("threads", "cached"),
    "rwkv": ("threads", "recomputed"),
}
"""Family -> (layout of training, how replies are generated)."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for each family of the sample, with the results of the stock process."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("families")
    for name in EXPECTED:
        tiny_model(name).save_pretrained(root / name)
    run_stock("train", [root / name for name in EXPECTED], sys.executable, "stock")
    return root


@pytest.mark.parametrize("family", EXPECTED)
def test_loss_gradient_and_step_are_those_of_the_stock_model(trained: Path, family: str) -> None:
    policy, row = compare_training(trained / family, FamilyResult(family))
    assert row.reason == ""
    assert policy is not None
    reply, row = compare_replies(policy, row)
    assert (row.layout, row.replies) == EXPECTED[family]
    assert len(reply) == families.NEW


@pytest.mark.parametrize("family", EXPECTED)
def test_the_document_says_what_the_sample_shows(family: str) -> None:
    table = (REPOSITORY / "docs" / "families.md").read_text(encoding="utf-8")
    layout, replies = EXPECTED[family]
    assert f"| {family} | {layout} | {replies} | equal | " in table


def plant(monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    """Drop something that belongs to the attention or the logits of a family."""
    if fault == "scale or cap":
        monkeypatch.setattr(policy_module, "measure_logit_rule", lambda model: LogitRule())
        return
    kept = {
        "sinks": lambda softcap=None, sinks=None, window=None: ScoreTerms(softcap, None, window),
        "softcap": lambda softcap=None, sinks=None, window=None: ScoreTerms(None, sinks, window),
        "window": lambda softcap=None, sinks=None, window=None: ScoreTerms(softcap, sinks, None),
    }[fault]
    monkeypatch.setattr(attention_module, "ScoreTerms", kept)


FAULTS = [
    ("gpt_oss", "sinks"),
    ("gemma2", "softcap"),
    ("gemma3_text", "window"),
    ("gemma2", "scale or cap"),
    ("granite", "scale or cap"),
    ("cohere", "scale or cap"),
]


@pytest.mark.parametrize(("family", "fault"), FAULTS)
def test_a_dropped_term_is_found_by_the_stock_process_if_the_self_test_is_switched_off(
    trained: Path, monkeypatch: pytest.MonkeyPatch, family: str, fault: str
) -> None:
    plant(monkeypatch, fault)
    monkeypatch.setattr(families, "self_test", lambda policy, tokens, longest: SelfTestResult("tree", 0.0))
    _, row = compare_training(trained / family, FamilyResult(family))
    assert row.reason.startswith(("loss", "gradient", "other parameters have gradients"))


@pytest.mark.parametrize(("family", "fault"), [each for each in FAULTS if each != ("gemma2", "softcap")])
def test_a_dropped_term_is_found_by_the_self_test(
    trained: Path, monkeypatch: pytest.MonkeyPatch, family: str, fault: str
) -> None:
    plant(monkeypatch, fault)
    policy = Policy(load_model(str(trained / family)))
    if fault == "scale or cap":
        with pytest.raises(RecipeError, match=r"does not give the same log-probabilities in our batches as alone"):
            self_test(policy, 96, 40)
    else:  # the masks or the attention of the family's own code are exact, so the model can be trained with them
        verdict = self_test(policy, 96, 40)
        assert (verdict.layout, verdict.stock_attention) == ("threads", fault == "sinks")


def test_a_mask_that_is_dropped_is_found(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(families, "self_test", lambda policy, tokens, longest: SelfTestResult("tree", 0.0))
    whole = families.assemble_packed

    def without_mask(examples: list[Example], weighting: Any) -> Any:
        batch = whole(examples, weighting)
        return replace(batch, layout=replace(batch.layout, sizes=(batch.layout.tokens,), ancestors=((),)))

    monkeypatch.setattr(families, "assemble_packed", without_mask)
    _, row = compare_training(trained / "llama", FamilyResult("llama"))
    assert row.reason.startswith(("loss", "gradient"))


def test_the_attention_refuses_an_argument_that_it_does_not_know() -> None:
    states = torch.ones(1, 2, 3, 4)
    with pytest.raises(ValueError, match="Linear passes its attention block_indices, which is not known here"):
        attention_module.attention(torch.nn.Linear(1, 1), states, states, states, None, block_indices=states)
    attended, _ = attention_module.attention(
        torch.nn.Linear(1, 1), states, states, states, None, block_indices=None, output_attentions=False
    )
    assert attended.shape == (1, 3, 2, 4)


def test_the_rule_of_the_logits_is_found_where_the_logits_are_too_small_to_show_it() -> None:
    with torch.no_grad():
        model = tiny_model("gemma2", final_logit_softcapping=30.0)
        for weight in model.parameters():
            weight.mul_(1e-3)
    rule = measure_logit_rule(model)
    assert (rule.states_factor, rule.factor, rule.cap) == (1.0, 1.0, pytest.approx(30.0))
    assert measure_logit_rule(tiny_model("granite", logits_scaling=8.0)) == LogitRule(factor=0.125)
    assert measure_logit_rule(tiny_model("llama")) == LogitRule()


def test_a_model_that_reads_in_both_directions_is_refused() -> None:
    with pytest.raises(RecipeError, match="BertLMHeadModel reads in both directions"):
        Policy(tiny_model("bert"))


@pytest.mark.parametrize("values", [{"hidden_dropout": 0.3}, {"attention_dropout": 0.3}])
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("family", ["bloom", "phimoe", "mixtral"])
def test_training_draws_no_noise(tmp_path: Path, family: str, checkpointing: bool, values: dict[str, float]) -> None:
    noise = {"bloom": {}, "phimoe": {"input_jitter_noise": 0.1}, "mixtral": {"router_jitter_noise": 0.1}}[family]
    tiny_model(family, **values, **noise).save_pretrained(tmp_path)
    policy = Policy(load_model(str(tmp_path)), layout="threads")
    if checkpointing:
        policy.model.gradient_checkpointing_enable({"use_reentrant": False})
    batch = assemble_packed(families.examples(), "threads")
    policy.eval()
    expected = policy.log_probabilities(batch).log_probability
    policy.train()
    assert all(torch.equal(policy.log_probabilities(batch).log_probability, expected) for _ in range(2))


@pytest.mark.skipif("TUNESMITH_OLD_TRANSFORMERS" not in os.environ, reason="needs a Python with transformers 4.57")
def test_transformers_4_reads_the_same_model_from_an_export(tmp_path: Path) -> None:
    names = ("llama", "gpt_neox", "gemma3_text", "gpt_oss")
    for row in families.run(names, tmp_path, os.environ["TUNESMITH_OLD_TRANSFORMERS"]):
        assert (row.reason, row.export, row.old) == ("", "equal", "equal")
