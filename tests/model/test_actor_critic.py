"""Values and log-probabilities of trees are those of separate sequences; the two parts save and load as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pytest
import torch
from torch import Tensor

from tests.train.small_rollouts import actor_critic, generator
from tunesmith.batch.columns import OLD_VALUE, PPO_COLUMNS
from tunesmith.batch.example import Example
from tunesmith.batch.packed import assemble_packed
from tunesmith.batch.threads import split_into_threads
from tunesmith.data.dataset.plan import PlannedStep
from tunesmith.model import head
from tunesmith.model.actor_critic import ActorCritic
from tunesmith.model.policy import Policy
from tunesmith.objectives.proximal import ProximalPolicy
from tunesmith.text.tokens.token_tree import TokenTree
from tunesmith.train.rollout.rollouts import Rollouts

FAMILIES = ("gpt_neox", "llama")
VALUES: tuple[Literal["shared", "separate"], ...] = ("shared", "separate")


def written(actor: ActorCritic) -> Rollouts:
    return generator(actor)(0, PlannedStep(0, 0, (4, 1, 3)), 0.05)


def moved(actor: ActorCritic) -> ActorCritic:
    """Away from the weights that wrote the replies, so that ratios and clips are at work."""
    with torch.no_grad():
        for index, parameter in enumerate(actor.parameters().values()):
            parameter.add_(0.05 * torch.sin(torch.arange(parameter.numel()) + index).reshape(parameter.shape))
    return actor


def gradients(actor: ActorCritic, examples: Sequence[Example]) -> tuple[float, dict[str, Tensor]]:
    objective, batch = ProximalPolicy(), assemble_packed(examples, "messages")
    found = objective(actor, batch, objective.units(batch))
    found.loss.backward()
    grads = {name: p.grad.clone() for name, p in actor.parameters().items() if p.grad is not None}
    for parameter in actor.parameters().values():
        parameter.grad = None
    return found.loss.item(), grads


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradients_of_trees_are_those_of_separate_sequences(
    family: str, value: Literal["shared", "separate"]
) -> None:
    actor = actor_critic(family, value)
    rollouts = written(actor)
    trees, sequences = list[Example](), list[Example]()
    for each, part in zip(rollouts.answered, rollouts.prompt_slices(), strict=True):
        columns = {name: rollouts.columns[name][part] for name in PPO_COLUMNS}
        trees.append(Example(each.number, each.tree(), columns=columns))
        for thread in split_into_threads(each.tree()):
            own = {name: values[thread.targets] for name, values in columns.items()}
            sequences.append(Example(each.number, _without_replies(thread.tree), columns=own))
    assert len(sequences) == 9
    moved(actor)
    loss, ours = gradients(actor, trees)
    expected_loss, expected = gradients(actor, sequences)
    assert loss == pytest.approx(expected_loss, abs=1e-5)
    assert ours.keys() == expected.keys()
    assert any(name.startswith("value.backbone") for name in ours) == (value == "separate")
    for name, gradient in expected.items():
        assert torch.allclose(ours[name], gradient, atol=1e-5), name


def _without_replies(tree: TokenTree) -> TokenTree:
    return TokenTree(tree.ids, tree.segments, tree.spans, tree.threads)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_gradient_hint_is_the_gradient_that_the_backward_pass_receives(
    temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    actor = actor_critic("llama", "shared", temperature)
    rollouts = written(actor)
    columns = [{name: rollouts.columns[name][part] for name in PPO_COLUMNS} for part in rollouts.prompt_slices()]
    pairs = zip(rollouts.answered, columns, strict=True)
    examples = [Example(each.number, each.tree(), columns=own) for each, own in pairs]
    moved(actor)
    passes, run = [], head._HeadPass.run
    monkeypatch.setattr(head._HeadPass, "run", lambda *given, **more: (passes.append(1), run(*given, **more)))
    _, ours = gradients(actor, examples)
    assert not passes, "the head ran again, for another gradient than the hint"
    of_hidden = Policy.log_probabilities_of_hidden
    monkeypatch.setattr(
        Policy, "log_probabilities_of_hidden", lambda self, hidden, batch, hint=None: of_hidden(self, hidden, batch)
    )
    _, expected = gradients(actor, examples)
    assert passes
    assert all(torch.equal(ours[name], gradient) for name, gradient in expected.items())


@pytest.mark.parametrize("value", VALUES)
def test_threads_give_what_trees_give(value: Literal["shared", "separate"]) -> None:
    tree, threads = actor_critic(value=value), actor_critic(value=value)
    threads = ActorCritic(threads.policy.with_layout("threads"), threads.value)
    if threads.value.backbone is not None:
        threads.value.backbone.layout = "threads"
    batch = assemble_packed([Example(0, each.tree()) for each in written(tree).answered], "messages")
    (ours, our_values), (theirs, their_values) = tree.actor_critic(batch), threads.actor_critic(batch)
    assert torch.allclose(ours.log_probability, theirs.log_probability, atol=1e-5)
    assert torch.allclose(our_values, their_values, atol=1e-5)


@pytest.mark.parametrize("value", VALUES)
def test_what_is_saved_of_the_value_function_brings_it_back(value: Literal["shared", "separate"]) -> None:
    actor, other = moved(actor_critic(value=value)), actor_critic(value=value)
    batch = assemble_packed([Example(0, written(other).answered[0].tree())], "messages")
    expected = actor.actor_critic(batch)[1]
    assert not torch.allclose(other.actor_critic(batch)[1], expected)
    other.model.load_state_dict(actor.model.state_dict())
    other.value.module.load_state_dict(actor.value.module.state_dict())
    assert torch.equal(other.actor_critic(batch)[1], expected)


def test_parameters_of_the_policy_keep_their_names_and_none_is_there_twice() -> None:
    actor = actor_critic(value="separate")
    names = dict(actor.model.named_parameters())
    own = {name: value for name, value in actor.parameters().items() if not name.startswith("value.")}
    assert own.keys() == names.keys()
    assert all(own[name] is names[name] for name in names)
    assert len({id(value) for value in actor.parameters().values()}) == len(actor.parameters())
    assert {name.split(".")[1] for name in actor.parameters().keys() - names.keys()} == {"head", "backbone"}


def test_a_value_network_of_its_own_does_not_move_the_policy() -> None:
    actor = actor_critic(value="separate")
    batch = assemble_packed([Example(0, written(actor).answered[0].tree())], "messages")
    actor.actor_critic(batch)[1].sum().backward()
    moving = {name for name, parameter in actor.parameters().items() if parameter.grad is not None}
    assert moving
    assert all(name.startswith("value.") for name in moving)


def test_values_of_a_new_head_are_zero() -> None:
    actor = actor_critic()
    with torch.no_grad():
        actor.value.head.weight.zero_()
    assert not written(actor).columns[OLD_VALUE].any()
