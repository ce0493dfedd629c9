"""Runs of PPO: resume at every step, gates that see planted faults, refusals, and a reward that rises."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from tests.runs import digests
from tests.text.small_tokenizers import unigram, write_tokenizer
from tests.worlds import ppo_recipe
from tunesmith.batch.columns import OLD_LOG_PROBABILITY
from tunesmith.compose import train_recipe
from tunesmith.compose.methods import ppo
from tunesmith.data.dataset.rendering import RenderSettings, load_renderer
from tunesmith.errors import DataError, InternalError, RecipeError, StoppedError, StorageError
from tunesmith.model.actor_critic import ActorCritic
from tunesmith.model.policy import Policy
from tunesmith.train.rollout.generator import RolloutGenerator
from tunesmith.train.rollout.rollouts import Rollouts
from tunesmith.train.rollout.steps import RolloutSteps

STEPS = 13
SHORT = [
    f"train.steps={STEPS}",
    "train.save_every=5",
    "train.evaluate_every=null",
    "train.schedule={kind: constant}",
    "data.validation=3",
]


def run(root: Path, name: str, *overrides: str, **world: str) -> Path:
    given = [*SHORT, f"run.directory={root / name}", *overrides]
    return train_recipe(ppo_recipe(root, given, **world)).directory


def records(directory: Path) -> list[dict[str, Any]]:
    return [record for record in map(json.loads, (directory / "metrics.jsonl").open()) if "units" in record]


@pytest.fixture(scope="module")
def never_stopped(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """shared or separate -> the world of an uninterrupted run, which is in ``run``."""
    made: dict[str, Path] = {}

    def find(value: str) -> Path:
        if value not in made:
            made[value] = tmp_path_factory.mktemp(value)
            run(made[value], "run", value=value, architecture="gpt_neox" if value == "shared" else "llama")
        return made[value]

    return find


@pytest.mark.parametrize(("value", "stops"), [("separate", [6]), ("shared", [4, 6, 8])])
def test_a_run_that_was_stopped_ends_as_if_never_stopped(
    value: str, stops: list[int], never_stopped: Callable[[str], Path]
) -> None:
    """Within an iteration of four steps, and between iterations."""
    root = never_stopped(value)
    name = f"stop-{stops[0]}"
    for stop in stops:
        with pytest.raises(StoppedError, match=f"stopped after step {stop} of {STEPS}"):
            run(root, name, f"train.stop_after={stop}", value=value)
    assert digests(run(root, name, value=value)) == digests(root / "run")
    shutil.rmtree(root / name)


@pytest.mark.exhaustive
def test_a_run_stopped_after_every_step_ends_as_if_never_stopped(never_stopped: Callable[[str], Path]) -> None:
    root = never_stopped("separate")
    expected = records(root / "run")
    for stop in range(1, STEPS):
        with pytest.raises(StoppedError, match=f"stopped after step {stop} of {STEPS}"):
            run(root, "every", f"train.stop_after={stop}")
        assert records(root / "every") == expected[:stop]
    assert digests(run(root, "every")) == digests(root / "run")


def test_the_run_that_is_compared_has_all_that_can_go_wrong(never_stopped: Callable[[str], Path]) -> None:
    found = records(never_stopped("separate") / "run")
    coefficients = [record["kl_coefficient"] for record in found if "kl_coefficient" in record]
    assert len(coefficients) == len(set(coefficients)) == 4
    empty = [record["step"] for record in found if not record["units"]]
    assert empty
    assert max(record["clipped"] for record in found if record["units"]) > 0
    assert len({record["rewards/mean"] for record in found if "rewards/mean" in record}) == 4
    assert found[0]["ratio"] == pytest.approx(1.0, abs=1e-5)
    assert found[0]["reference_kl"] == pytest.approx(0.0, abs=1e-6)


def test_old_log_probabilities_that_a_resumed_run_recomputes_are_seen(
    never_stopped: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, load = never_stopped("separate"), RolloutSteps.rollouts

    def recomputed(self: RolloutSteps, position: Any) -> Rollouts:
        found = load(self, position)
        generate = self.generate
        assert isinstance(generate, RolloutGenerator)
        return generate.score(position.iteration, found.answered, found.coefficient) if position.offset else found

    with pytest.raises(StoppedError):
        run(root, "recomputed", "train.stop_after=6")
    monkeypatch.setattr(RolloutSteps, "rollouts", recomputed)
    assert digests(run(root, "recomputed")) != digests(root / "run")


@pytest.mark.parametrize("damage", ["gone", "changed"])
def test_a_run_cannot_go_on_without_the_rollouts_it_was_at(damage: str, never_stopped: Callable[[str], Path]) -> None:
    root = never_stopped("separate")
    name = f"damage-{damage}"
    with pytest.raises(StoppedError):
        run(root, name, "train.stop_after=6")
    path = root / name / "rollouts" / "iteration-000001" / "rollouts.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1])) if damage == "changed" else shutil.rmtree(path.parent)
    with pytest.raises(StorageError, match=r"iteration-000001: the rollouts .* damaged.*remove the newest checkpoints"):
        run(root, name)
    shutil.rmtree(root / name / "checkpoints" / "step-000006")
    shutil.rmtree(root / name / "checkpoints" / "step-000005")
    assert digests(run(root, name)) == digests(root / "run")


def test_micro_batches_change_only_rounding(never_stopped: Callable[[str], Path]) -> None:
    root = never_stopped("separate")
    for tokens in (50, 10_000):
        adam = ["train.optimizer={kind: adamw, epsilon: 1e-2}", "train.steps=6"]
        run(root, f"micro-{tokens}", f"train.micro_batch_tokens={tokens}", *adam)
    small, large = (records(root / f"micro-{tokens}") for tokens in (50, 10_000))
    assert [record["examples"] for record in small] == [record["examples"] for record in large]
    for one, other in zip(small, large, strict=True):
        assert one.keys() == other.keys()
        for name in ("loss", "kl", "value", "gradient_norm"):
            assert one.get(name, 0.0) == pytest.approx(other.get(name, 0.0), abs=1e-4), (one["step"], name)


def test_the_export_is_the_policy_alone(never_stopped: Callable[[str], Path]) -> None:
    directory = never_stopped("shared") / "run"
    exported = AutoModelForCausalLM.from_pretrained(directory / "export").state_dict()
    last = load_file(directory / "checkpoints" / f"step-{STEPS:06d}" / "model.safetensors")
    assert exported.keys() == last.keys()
    assert all(torch.equal(exported[name], last[name]) for name in last)


def _made(change: Callable[[Rollouts], Rollouts]) -> Callable[..., Rollouts]:
    score = RolloutGenerator.score

    def changed(self: RolloutGenerator, *given: Any) -> Rollouts:
        return change(score(self, *given))

    return changed


def _columns(rollouts: Rollouts, name: str, change: Callable[[Any], Any]) -> Rollouts:
    return replace(rollouts, columns={**rollouts.columns, name: change(rollouts.columns[name])})


FAULTS: dict[str, tuple[Any, str, Any, str]] = {
    "off by one": (
        RolloutGenerator,
        "score",
        _made(lambda made: _columns(made, OLD_LOG_PROBABILITY, lambda old: np.roll(old, 1))),
        "probability ratio",
    ),
    "another reference": (
        RolloutGenerator,
        "score",
        _made(lambda made: _columns(made, "reference", lambda old: old - np.float32(0.01))),
        "KL to the reference",
    ),
    "another temperature": (
        ppo,
        "ActorCritic",
        lambda policy, value: ActorCritic(Policy(policy.model), value),
        "log-probabilities of the first replies",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_gate_sees_a_planted_fault_before_any_weight_moves(
    fault: str, never_stopped: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    target, name, planted, gate = FAULTS[fault]
    root = never_stopped("separate")
    monkeypatch.setattr(target, name, planted)
    with pytest.raises(InternalError, match=f"proof failed: {gate}"):
        run(root, fault.replace(" ", "-"))
    assert not list((root / fault.replace(" ", "-") / "checkpoints").iterdir())


REFUSED = {
    "model.residual_dropout": "model.residual_dropout=0.1",
    "text.truncation": "text.truncation=right",
    "objective.max_new_tokens": "text.max_length=8",
    "train.batch_size": "train.batch_size=7",
    "train.batch_unit": "train.batch_unit=tokens",
    "evaluate.replies": "evaluate.replies=3",
    "text.targets": "text.targets=last",
}


@pytest.mark.parametrize("key", REFUSED)
def test_what_does_not_go_with_rollouts_is_refused_by_its_key(key: str, never_stopped: Callable[[str], Path]) -> None:
    with pytest.raises(RecipeError, match=key):
        ppo_recipe(never_stopped("separate"), [*SHORT, REFUSED[key]])


def rewards(*sources: dict[str, Any]) -> str:
    return f"objective.rewards={json.dumps(sources)}"


def test_a_reward_model_with_another_tokenizer_is_refused(never_stopped: Callable[[str], Path]) -> None:
    root = never_stopped("separate")
    other = shutil.copytree(root / "reward-model", root / "other-tokenizer")
    write_tokenizer(other, unigram(), eos="</s>", unk="<unk>", pad="<pad>")
    with pytest.raises(RecipeError, match=r"objective.rewards.0.path: .*other-tokenizer has another tokenizer"):
        run(root, "refused", rewards({"kind": "model", "path": str(other)}))
    with pytest.raises(RecipeError, match=r"objective.value: .*other-tokenizer has another tokenizer"):
        run(root, "refused-value", f"objective.value={other}")


def test_a_reward_model_of_another_prompt_format_is_refused(never_stopped: Callable[[str], Path]) -> None:
    root = never_stopped("separate")
    other = shutil.copytree(root / "reward-model", root / "other-format")
    description = {
        "format": "alpaca",
        "options": {},
        "max_length": 99,
        "sampling": {},
        "base": "x",
        "recipe": "y",
        "steps": 1,
    }
    (other / "tunesmith.json").write_text(json.dumps(description))
    with pytest.raises(
        RecipeError, match=r"objective.rewards.0.path: .*prompt format 'alpaca', this recipe uses 'dolly'"
    ):
        run(root, "refused-format", rewards({"kind": "model", "path": str(other)}))


def test_a_model_with_too_few_positions_is_refused(never_stopped: Callable[[str], Path]) -> None:
    root = never_stopped("separate")
    other = shutil.copytree(root / "reward-model", root / "short")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 100}))
    with pytest.raises(RecipeError, match=r"objective.rewards.0.path: the model reads 100 tokens"):
        run(root, "refused-short", rewards({"kind": "model", "path": str(other)}))


def test_another_reference_is_measured_against(never_stopped: Callable[[str], Path]) -> None:
    root = never_stopped("separate")
    found = records(run(root, "reference", "train.steps=1", f"objective.reference={root / 'run' / 'export'}"))
    assert found[0]["reference_kl"] > 1e-3


def test_a_prompt_without_a_check_is_named(never_stopped: Callable[[str], Path]) -> None:
    root = never_stopped("separate")
    lines = (root / "checks.jsonl").read_text().splitlines()
    instruction = json.loads(lines.pop(7))["instruction"]
    few = root / "few.jsonl"
    few.write_text("\n".join(line for line in lines if json.loads(line)["instruction"] != instruction) + "\n")
    with pytest.raises(DataError, match=f"few.jsonl: there is no check for the prompt .*{instruction}"):
        run(root, "refused-check", rewards({"kind": "check", "path": str(few)}))


def test_a_value_network_can_begin_as_a_reward_model(never_stopped: Callable[[str], Path]) -> None:
    root = never_stopped("separate")
    directory = run(root, "value", "train.steps=3", f"objective.value={root / 'reward-model'}")
    assert records(directory)[0]["value"] != 0.0


def test_another_reward_model_than_the_run_began_with_is_refused(never_stopped: Callable[[str], Path]) -> None:
    root = never_stopped("separate")
    model = shutil.copytree(root / "reward-model", root / "changing")
    given = ["train.stop_after=2", rewards({"kind": "model", "path": str(model)})]
    with pytest.raises(StoppedError):
        run(root, "changed", *given)
    tensors = load_file(model / "model.safetensors")
    save_file({**tensors, "score.weight": tensors["score.weight"] + 1}, model / "model.safetensors", {"format": "pt"})
    with pytest.raises(RecipeError, match=r"started with other data, models or software(.|\n)*rewards"):
        run(root, "changed", *given)


def test_the_mean_reward_of_a_check_rises(tmp_path: Path) -> None:
    ppo_recipe(tmp_path)
    tokenizer = load_renderer(RenderSettings(str(tmp_path / "tokenizer"), "dolly", 200)).tokenizer
    answers = sorted({tokenizer.decode([token]).strip() for token in range(150, 190)} - {""})
    lines = [json.loads(line) for line in (tmp_path / "checks.jsonl").read_text().splitlines()]
    checked = [{**line, "check": {"one_of": answers}} for line in lines]
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in checked))
    keys = {
        "max_new_tokens": 1,
        "prompts_per_iteration": 16,
        "samples": 4,
        "temperature": 1,
        "kl_coefficient": 0.01,
        "kl_target": "null",
        "kl_stop": "null",
        "value_warmup_steps": 0,
    }
    overrides = [f"objective.{name}={value}" for name, value in keys.items()]
    source = rewards({"kind": "check", "path": str(tmp_path / "answers.jsonl")})
    length = ["train.steps=32", "train.batch_size=8", "train.learning_rate=1e-2"]
    found = records(run(tmp_path, "rises", *overrides, source, *length, value="shared"))
    means = [record["rewards/mean"] for record in found if "rewards/mean" in record]
    assert means[0] < 0.3
    assert sum(means[-2:]) / 2 > 0.8
