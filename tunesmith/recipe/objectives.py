"""The keys of a recipe that say what is optimised: one section for each kind of objective."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias

from pydantic import BeforeValidator, Field, TypeAdapter, model_validator

from tunesmith.recipe.section import Amount, Count, Mass, Number, Positive, Problem, Section, Share, refuse

Path = Annotated[str, Field(min_length=1)]


class ObjectiveSection(Section):
    """What data, steps and models read from the keys of any objective; an objective overrides what differs.

    reader_purpose: what the readers of its data must give; None: anything.
    """

    reader_purpose: ClassVar[Literal["demonstrations", "rankings"] | None] = None

    @property
    def turn_weighting(self) -> Literal["threads", "messages"]:
        """Whether a shared turn counts once for every thread through it, or once."""
        return "messages"

    @property
    def reserved_tokens(self) -> int:
        """Tokens that every stored example leaves free below ``text.max_length`` for a reply."""
        return 0

    @property
    def prompt_selection(self) -> Literal["last", "every"] | None:
        """Which turns of a conversation are answered by the model itself; None: its replies are those of the data."""
        return None

    @property
    def score_scale(self) -> float:
        """Factor of the scores in the data; above 0 every ranked reply must have one."""
        return 0.0

    @property
    def separate_reference(self) -> str | None:
        """Path or hub name of a reference that is not the model before the first step."""
        return None

    @property
    def reward_models(self) -> Mapping[str, str]:
        """Recipe key -> directory of every reward model that the objective reads."""
        return {}

    @property
    def further_inputs(self) -> Mapping[str, str]:
        """Key below ``objective`` -> path of everything that a run reads apart from data, model and reference."""
        return {}


class Sft(ObjectiveSection):
    """Supervised fine-tuning: the assistant's turns are learned."""

    reader_purpose = "demonstrations"
    kind: Literal["sft"] = Field(default="sft", description="objective")
    weighting: Literal["threads", "messages"] = Field(
        default="messages",
        description="threads: a shared turn counts once for every thread through it; messages: every turn counts once",
    )
    z_loss: Amount = Field(
        default=0.0, description="times the squared log-sum-exp of the logits, added to the loss of every target"
    )
    label_smoothing: Share = Field(
        default=0.0, description="probability that the target gives up to all other tokens together"
    )
    normalize: Literal["targets", "sum"] | Positive = Field(
        default="targets",
        description="what the summed loss of a step is divided by: targets (their weighted number), sum (nothing; under "
        "AdamW or a limit on the gradient's norm this only changes what learning rate, epsilon and clip mean), or a number",
    )

    @property
    def turn_weighting(self) -> Literal["threads", "messages"]:
        return self.weighting


class Dpo(ObjectiveSection):
    """Direct preference optimisation and its relatives: better replies gain probability over worse ones."""

    reader_purpose = "rankings"
    kind: Literal["dpo"] = Field(default="dpo", description="objective")
    loss: Literal["sigmoid", "hinge", "ipo"] = Field(
        default="sigmoid",
        description="of h, how much more the log-probability of the better reply rose over the reference than that of the "
        "worse one: sigmoid (DPO), hinge (SLiC), ipo (squared distance to 1 / (2 beta))",
    )
    beta: Positive = Field(default=0.1, description="scale of h; the larger, the nearer to the reference")
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = Field(
        default=0.0, description="sigmoid: how probable it is that a pair is the wrong way round"
    )
    length_normalized: bool = Field(
        default=False, description="mean log-probability of a reply's tokens instead of their sum"
    )
    target_margin: Amount = Field(default=0.0, description="subtracted from beta times h (the gamma of SimPO)")
    margin_scale: Amount = Field(
        default=0.0, description="times the difference of the scores in the data, subtracted from beta times h"
    )
    policy_weighted: bool = Field(
        default=False, description="weight every pair by the model's own probability of its replies (WPO)"
    )
    sft_weight: Amount = Field(
        default=0.0,
        description="times the mean negative log-probability of the better reply's tokens, added to the loss",
    )
    reference: Literal["start", "none"] | Path = Field(
        default="start",
        description="what h compares with: start (the model as it is before the first step), a model directory, or none",
    )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        return refuse(self, _sigmoid_only(self))

    @property
    def score_scale(self) -> float:
        return self.margin_scale

    @property
    def separate_reference(self) -> str | None:
        return None if self.reference in ("start", "none") else self.reference


class Reward(ObjectiveSection):
    """A reward model: one score for every reply, higher for better ones (Bradley and Terry 1952)."""

    reader_purpose = "rankings"
    kind: Literal["reward"] = Field(default="reward", description="objective")
    margin_scale: Amount = Field(
        default=0.0, description="times the difference of the scores in the data, subtracted from that of the model's"
    )
    l2: Amount = Field(default=0.0, description="times half the squared scores of a pair, added to its loss")
    head_std: Amount | None = Field(
        default=None,
        description="standard deviation of the new head's weights; null: 1 / sqrt(hidden size + 1), 0: zeros",
    )

    @property
    def score_scale(self) -> float:
        return self.margin_scale


class ModelReward(Section):
    """The score of a reward model."""

    kind: Literal["model"] = Field(default="model", description="source of rewards")
    path: Path = Field(description="run or export of a reward model")
    scale: float = Field(default=1.0, description="times the score")
    offset: float = Field(default=0.0, description="added then")


class CheckReward(Section):
    """1 for a reply that passes the check written beside its prompt, 0 for any other."""

    kind: Literal["check"] = Field(default="check", description="source of rewards")
    path: Path = Field(description="file of instruction, context and check")
    scale: float = Field(default=1.0, description="times 1 or 0")
    offset: float = Field(default=0.0, description="added then")


class Ppo(ObjectiveSection):
    """Proximal policy optimisation (Schulman et al. 2017) of rewards for replies that the model writes itself."""

    kind: Literal["ppo"] = Field(default="ppo", description="objective")
    prompts: Literal["last", "every"] = Field(
        default="last", description="what is answered: the last question of each conversation, or every question"
    )
    prompts_per_iteration: Count = Field(description="prompts that get replies from the same weights")
    samples: Count = Field(default=1, description="replies to each of them")
    epochs_per_iteration: Count = Field(default=1, description="how often these replies are trained on")
    max_new_tokens: Count = Field(description="a reply ends after so many tokens")
    temperature: Positive = Field(default=1.0, description="of replies, and of all log-probabilities of training")
    top_k: Number = Field(default=0, description="replies: only the k most probable tokens; 0: all")
    top_p: Mass = Field(default=1.0, description="replies: only the smallest set of tokens of that probability")
    unfinished_reward: float | None = Field(
        default=None, description="reward of a reply that did not end by itself; null: as any other"
    )
    rewards: Annotated[
        tuple[Annotated[ModelReward | CheckReward, Field(discriminator="kind")], ...], Field(strict=False, min_length=1)
    ] = Field(description="where rewards come from; they are added up")
    kl_coefficient: Amount = Field(
        default=0.05, description="times the log-ratio of a token to the reference, taken from its reward"
    )
    kl_target: Positive | None = Field(
        default=None, description="mean KL of a reply that the coefficient is adapted towards; null: it stays"
    )
    kl_horizon: Count = Field(default=10_000, description="replies over which it is adapted")
    kl_stop: Positive | None = Field(
        default=None,
        description="the rest of an iteration is left out once the mean KL of a token to its beginning is above",
    )
    discount: Mass = Field(default=1.0, description="of a later reward, for every token")
    gae_lambda: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.95, description="generalised advantage estimation: 0 trusts the value function, 1 the rewards"
    )
    whiten_advantages: bool = Field(default=True, description="advantages to mean 0 and variance 1")
    whiten_rewards: bool = Field(default=False, description="rewards to variance 1 before advantages are made")
    clip: Positive = Field(default=0.2, description="largest change of a token's probability ratio that is rewarded")
    value_clip: Positive | None = Field(
        default=0.2, description="largest change of a value that is rewarded; null: any"
    )
    value_weight: Positive = Field(default=0.1, description="of the value function's loss")
    value: Literal["shared", "separate"] | Path = Field(
        default="separate",
        description="value function: a head on the policy, a network of its own from the start model, or from this reward model",
    )
    value_warmup_steps: Number = Field(default=0, description="steps that train the value function only")
    reference: Literal["start"] | Path = Field(
        default="start", description="what the KL is measured against: the model before the first step, or a directory"
    )

    @property
    def reserved_tokens(self) -> int:
        return self.max_new_tokens

    @property
    def prompt_selection(self) -> Literal["last", "every"] | None:
        return self.prompts

    @property
    def separate_reference(self) -> str | None:
        return None if self.reference == "start" else self.reference

    @property
    def value_model(self) -> str | None:
        """Directory of the reward model that the value function is initialised from."""
        return None if self.value in ("shared", "separate") else self.value

    @property
    def reward_models(self) -> Mapping[str, str]:
        found = {
            f"objective.rewards.{index}.path": reward.path
            for index, reward in enumerate(self.rewards)
            if isinstance(reward, ModelReward)
        }
        return found if self.value_model is None else {**found, "objective.value": self.value_model}

    @property
    def further_inputs(self) -> Mapping[str, str]:
        found = {f"rewards.{index}": reward.path for index, reward in enumerate(self.rewards)}
        return found if self.value_model is None else {**found, "value": self.value_model}


def _sft_unless_said(given: Any) -> Any:
    """Keys without a kind are those of supervised fine-tuning."""
    return {"kind": "sft", **given} if isinstance(given, dict) else given


Kinds: TypeAlias = Annotated[Sft | Dpo | Reward | Ppo, Field(discriminator="kind")]
Objective: TypeAlias = Annotated[Kinds, BeforeValidator(_sft_unless_said)]

OBJECTIVE: TypeAdapter[Sft | Dpo | Reward | Ppo] = TypeAdapter(Objective)
"""Reads the section alone."""


def _sigmoid_only(dpo: Dpo) -> Iterator[Problem]:
    if dpo.loss != "sigmoid" and dpo.label_smoothing:
        yield Problem("label_smoothing", f"belongs to loss sigmoid, not {dpo.loss}; set it to 0")
    if dpo.loss == "ipo" and (dpo.target_margin or dpo.margin_scale):
        key = "target_margin" if dpo.target_margin else "margin_scale"
        yield Problem(key, "loss ipo has a target of its own, 1 / (2 beta); set it to 0")
