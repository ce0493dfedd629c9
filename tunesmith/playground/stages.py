"""The models of the demo in the order of their training: which recipe, which data, and which model each goes on from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tunesmith.playground.files import DemoFiles

HERE = Path(__file__).parent

Data = Literal[
    "prose",
    "demonstrations",
    "preferences",
    "comparisons",
    "checks_right",
    "checks_courteous",
    "held_out",
    "held_out_tones",
    "held_out_mistakes",
]
"""The demo's files that a recipe may read."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One model of the demo. name: of its directory and column. recipe: the file beside this one. data: which of the
    demo's files it reads, with which reader. before: the stage that it goes on from; None for random weights. validation:
    files that its run is evaluated on, with the same reader. checks: files of the recipe's rewards, in their order.
    replies: False for a model that only gives scores to replies. settings: further values, ``key=value``."""

    name: str
    title: str
    recipe: str
    data: Data
    reader: str
    before: str | None = None
    validation: tuple[Data, ...] = ()
    checks: tuple[Data, ...] = ()
    replies: bool = True
    settings: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        """The recipe."""
        return HERE / f"{self.recipe}.yaml"

    def values(self, files: DemoFiles, exports: Mapping[str, Path]) -> list[str]:
        """What the recipe leaves to the demo, as ``key=value``. exports: of the stages before."""
        given = [
            f"model.tokenizer={files.tokenizer}" if self.before is None else f"model.path={exports[self.before]}",
            f"data.sources=[{self._source(files, self.data)}]",
        ]
        if self.validation:
            given.append(
                f"data.validation_sources=[{', '.join(self._source(files, each) for each in self.validation)}]"
            )
        given += [f"objective.rewards.{index}.path={getattr(files, each)}" for index, each in enumerate(self.checks)]
        return given

    def _source(self, files: DemoFiles, data: Data) -> str:
        return f"{{path: '{getattr(files, data)}', reader: {self.reader}}}"


BASE = Stage("base", "a base model, from random weights", "base", "prose", "messages")
ASSISTANT = Stage(
    "assistant",
    "the assistant: the base model, fine-tuned on demonstrations",
    "assistant",
    "demonstrations",
    "dolly",
    before="base",
)
DPO = Stage(
    "dpo",
    "the assistant with preferences (DPO): courteous over curt, right over wrong",
    "preferences",
    "preferences",
    "preference-text",
    before="assistant",
    validation=("held_out_tones", "held_out_mistakes"),
)
REWARD = Stage(
    "reward",
    "a reward model of the same preferences and more of right over wrong",
    "reward",
    "comparisons",
    "preference-text",
    before="assistant",
    validation=("held_out_tones", "held_out_mistakes"),
    replies=False,
)
PPO = Stage(
    "ppo",
    "the assistant with rewards for its own replies (PPO): right, and right and courteous",
    "ppo",
    "demonstrations",
    "dolly",
    before="assistant",
    validation=("held_out",),
    checks=("checks_right", "checks_courteous"),
)
CAUSAL = (BASE, ASSISTANT, DPO)
FULL = (*CAUSAL, REWARD, PPO)
ENCODER_DECODER = (
    Stage("assistant", "an encoder-decoder, from random weights", "encoder_decoder", "demonstrations", "dolly"),
)
