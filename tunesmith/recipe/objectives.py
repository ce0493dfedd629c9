"""The keys of a recipe for the objective: one section for each kind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    TypeAdapter,
    model_validator,
)

from tunesmith.recipe.section import (
    Conflict,
    Fraction,
    FractionBelowOne,
    PositiveFraction,
    Section,
    check_conflicts,
)

Path = Annotated[str, Field(min_length=1)]

OBJECTIVE_KIND = "Selects the objective and with it the other keys of this section."
REWARD_KIND = "Selects where the reward comes from: a reward model, or a check of the reply."


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


class SftConfig(ObjectiveSection):
    """Supervised fine-tuning: cross-entropy on the assistant's turns."""

    reader_purpose = "demonstrations"
    kind: Literal["sft"] = Field(default="sft", description=OBJECTIVE_KIND)
    weighting: Literal["threads", "messages"] = Field(
        default="messages",
        description="The weight of a turn that several threads share: messages counts it once, threads counts it once "
        "for each of these threads.",
    )
    z_loss: NonNegativeFloat = Field(
        default=0.0,
        description="The coefficient of the squared log-sum-exp of the logits, added to the loss of every target; 0 "
        "turns it off.",
    )
    label_smoothing: FractionBelowOne = Field(
        default=0.0,
        description="The probability that is moved from the target to all other tokens together; 0 turns it off.",
    )
    normalize: Literal["targets", "sum"] | PositiveFloat = Field(
        default="targets",
        description="What the summed loss of a step is divided by: targets (their weighted number), sum (1) or a "
        "number; with AdamW or gradient clipping the latter two only rescale learning_rate, epsilon and clip.",
    )

    @property
    def turn_weighting(self) -> Literal["threads", "messages"]:
        return self.weighting


class DpoConfig(ObjectiveSection):
    """Direct preference optimisation and its variants, on chosen and rejected replies."""

    reader_purpose = "rankings"
    kind: Literal["dpo"] = Field(default="dpo", description=OBJECTIVE_KIND)
    loss: Literal["sigmoid", "hinge", "ipo"] = Field(
        default="sigmoid",
        description="The loss on h, the log-ratio of policy and reference for the chosen reply minus that for the "
        "rejected one: sigmoid (DPO), hinge (SLiC) or ipo (the squared distance of h to 1 / (2 beta)).",
    )
    beta: PositiveFloat = Field(
        default=0.1, description="The factor of h in the loss; a larger beta keeps the policy closer to the reference."
    )
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = Field(
        default=0.0,
        description="The assumed probability that chosen and rejected are swapped in the data, for loss sigmoid; 0 "
        "trusts the data.",
    )
    length_normalized: bool = Field(
        default=False,
        description="Whether the log-probability of a reply is the mean over its tokens (true) or the sum (false).",
    )
    target_margin: NonNegativeFloat = Field(
        default=0.0, description="This number is subtracted from beta times h (the gamma of SimPO); 0 turns it off."
    )
    margin_scale: NonNegativeFloat = Field(
        default=0.0,
        description="The difference of the scores in the data is multiplied by this and subtracted from beta times h; "
        "0 turns it off.",
    )
    policy_weighted: bool = Field(
        default=False,
        description="Whether every pair is weighted by the policy's own probability of its replies (WPO).",
    )
    sft_weight: NonNegativeFloat = Field(
        default=0.0,
        description="The coefficient of the mean negative log-probability of the chosen reply's tokens, added to the "
        "loss; 0 turns it off.",
    )
    reference: Literal["start", "none"] | Path = Field(
        default="start",
        description="The reference model: start (the model before the first step), a model directory, or none for "
        "losses without a reference.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_conflicts(_find_loss_conflicts(self))
        return self

    @property
    def score_scale(self) -> float:
        return self.margin_scale

    @property
    def separate_reference(self) -> str | None:
        return None if self.reference in ("start", "none") else self.reference


class RewardConfig(ObjectiveSection):
    """A reward model: a scalar score for every reply, higher for preferred replies (Bradley and Terry 1952)."""

    reader_purpose = "rankings"
    kind: Literal["reward"] = Field(default="reward", description=OBJECTIVE_KIND)
    margin_scale: NonNegativeFloat = Field(
        default=0.0,
        description="The difference of the scores in the data is multiplied by this and subtracted from the "
        "difference of the model's scores; 0 turns it off.",
    )
    l2: NonNegativeFloat = Field(
        default=0.0,
        description="The coefficient of half the squared scores of a pair, added to its loss; 0 turns it off.",
    )
    head_std: NonNegativeFloat | None = Field(
        default=None,
        description="The standard deviation of the new head's initial weights; null uses 1 / sqrt(hidden size + 1), 0 "
        "starts from zeros.",
    )

    @property
    def score_scale(self) -> float:
        return self.margin_scale


class ModelRewardConfig(Section):
    """A reward that is the score of a reward model."""

    kind: Literal["model"] = Field(default="model", description=REWARD_KIND)
    path: Path = Field(description="The directory of a run of a reward model, or of its export.")
    scale: float = Field(default=1.0, description="The score is multiplied by this number.")
    offset: float = Field(default=0.0, description="This number is added to the scaled score.")


class CheckRewardConfig(Section):
    """A reward of 1 for a reply that passes the check stored with its prompt, and of 0 for any other reply."""

    kind: Literal["check"] = Field(default="check", description=REWARD_KIND)
    path: Path = Field(description="A JSON Lines file with the fields instruction, context and check.")
    scale: float = Field(default=1.0, description="The reward of 1 or 0 is multiplied by this number.")
    offset: float = Field(default=0.0, description="This number is added to the scaled reward.")


class PpoConfig(ObjectiveSection):
    """Proximal policy optimisation (Schulman et al. 2017) on replies that the policy generates itself."""

    kind: Literal["ppo"] = Field(default="ppo", description=OBJECTIVE_KIND)
    prompts: Literal["last", "every"] = Field(
        default="last",
        description="Which user turns of a conversation become prompts: the last one, or every one.",
    )
    prompts_per_iteration: PositiveInt = Field(
        description="The number of prompts that get replies from the same weights."
    )
    samples: PositiveInt = Field(default=1, description="The number of replies to each prompt of an iteration.")
    epochs_per_iteration: PositiveInt = Field(
        default=1, description="The number of passes over the replies of an iteration."
    )
    max_new_tokens: PositiveInt = Field(description="The largest number of tokens of a reply.")
    temperature: PositiveFloat = Field(
        default=1.0, description="The temperature of sampling, and of all log-probabilities in training."
    )
    top_k: NonNegativeInt = Field(
        default=0, description="Sampling considers only the k most probable tokens; 0 considers all."
    )
    top_p: PositiveFraction = Field(
        default=1.0,
        description="Sampling considers only the smallest set of tokens with this total probability; 1 considers all.",
    )
    unfinished_reward: float | None = Field(
        default=None,
        description="The reward of a reply that reaches max_new_tokens without an end token; null scores it as any "
        "other.",
    )
    rewards: Annotated[
        tuple[Annotated[ModelRewardConfig | CheckRewardConfig, Field(discriminator="kind")], ...],
        Field(strict=False, min_length=1),
    ] = Field(description="The sources of rewards; the reward of a reply is their sum.")
    kl_coefficient: NonNegativeFloat = Field(
        default=0.05,
        description="The log-ratio of policy and reference at a token is multiplied by this and subtracted from its "
        "reward; 0 turns the KL penalty off.",
    )
    kl_target: PositiveFloat | None = Field(
        default=None,
        description="The mean KL per reply towards which kl_coefficient is adapted; null keeps the coefficient "
        "constant.",
    )
    kl_horizon: PositiveInt = Field(
        default=10_000, description="The number of replies over which kl_coefficient is adapted."
    )
    kl_stop: PositiveFloat | None = Field(
        default=None,
        description="The remaining steps of an iteration are skipped once the mean KL per token to the policy that "
        "generated the replies exceeds this; null never skips.",
    )
    discount: PositiveFraction = Field(
        default=1.0, description="The discount factor (gamma) of future rewards, per token."
    )
    gae_lambda: Fraction = Field(
        default=0.95,
        description="The lambda of generalised advantage estimation: 0 relies on the value function, 1 on the rewards.",
    )
    whiten_advantages: bool = Field(
        default=True, description="Whether advantages are normalised to mean 0 and variance 1."
    )
    whiten_rewards: bool = Field(
        default=False, description="Whether rewards are scaled to variance 1 before the advantages are computed."
    )
    clip: PositiveFloat = Field(
        default=0.2, description="The clipping range of the probability ratio of a token in the policy loss."
    )
    value_clip: PositiveFloat | None = Field(
        default=0.2, description="The clipping range of a value in the value loss; null turns clipping off."
    )
    value_weight: PositiveFloat = Field(default=0.1, description="The coefficient of the value loss.")
    value: Literal["shared", "separate"] | Path = Field(
        default="separate",
        description="The value function: shared (a head on the policy), separate (a second model that begins as the "
        "start model) or the directory of a reward model with which it begins.",
    )
    value_warmup_steps: NonNegativeInt = Field(
        default=0, description="The number of optimizer steps at the beginning that train only the value function."
    )
    reference: Literal["start"] | Path = Field(
        default="start",
        description="The model for the KL penalty: start (the policy before the first step) or a model directory.",
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
            if isinstance(reward, ModelRewardConfig)
        }
        return found if self.value_model is None else {**found, "objective.value": self.value_model}

    @property
    def further_inputs(self) -> Mapping[str, str]:
        found = {f"rewards.{index}": reward.path for index, reward in enumerate(self.rewards)}
        return found if self.value_model is None else {**found, "value": self.value_model}


def _default_to_sft(given: Any) -> Any:
    """A section without a kind is supervised fine-tuning."""
    return {"kind": "sft", **given} if isinstance(given, dict) else given


_AnyObjective: TypeAlias = Annotated[SftConfig | DpoConfig | RewardConfig | PpoConfig, Field(discriminator="kind")]
ObjectiveConfig: TypeAlias = Annotated[_AnyObjective, BeforeValidator(_default_to_sft)]

OBJECTIVE_ADAPTER: TypeAdapter[SftConfig | DpoConfig | RewardConfig | PpoConfig] = TypeAdapter(ObjectiveConfig)
"""Validates the section ``objective`` alone."""


def _find_loss_conflicts(dpo: DpoConfig) -> Iterator[Conflict]:
    if dpo.loss != "sigmoid" and dpo.label_smoothing:
        message = f"label smoothing exists for loss sigmoid only, and the loss is {dpo.loss}; set label_smoothing to 0"
        yield Conflict("label_smoothing", message)
    if dpo.loss == "ipo" and (dpo.target_margin or dpo.margin_scale):
        key = "target_margin" if dpo.target_margin else "margin_scale"
        yield Conflict(key, f"loss ipo has a fixed target margin, 1 / (2 beta); set {key} to 0")
