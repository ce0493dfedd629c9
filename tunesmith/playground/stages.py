"""The models of the demo in the order of their training, each with its recipe, its data and its base model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tunesmith.playground.answers import BOTH, COURTEOUS, EXACT
from tunesmith.playground.files import DemoFiles

HERE = Path(__file__).parent

DemoFile = Literal[
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
"""The fields of DemoFiles that a recipe may read."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One model of the demo.

    name: the name of its directory, and of its column in the table.
    title: what is printed when its training starts.
    recipe: the name of its recipe in this package, without ``.yaml``.
    data: the file that it is trained on.
    reader: the reader of that file and of the validation files.
    before: the stage from whose model it starts; None for random weights.
    validation: the files that its run is evaluated on.
    checks: the files of the recipe's rewards, in their order.
    replies: whether the model generates replies; False for a reward model.
    goal: the row of the table that its training is to raise; None for a model that is not compared with another.
    settings: further values of the recipe, ``key=value``.
    """

    name: str
    title: str
    recipe: str
    data: DemoFile
    reader: str
    before: str | None = None
    validation: tuple[DemoFile, ...] = ()
    checks: tuple[DemoFile, ...] = ()
    replies: bool = True
    goal: str | None = None
    settings: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        """The file of the recipe."""
        return HERE / f"{self.recipe}.yaml"

    def values(self, files: DemoFiles, exports: Mapping[str, Path]) -> list[str]:
        """The values that the recipe does not have, as ``key=value``.

        files: the files of the demo.
        exports: stage -> the export of its model.
        """
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

    def _source(self, files: DemoFiles, data: DemoFile) -> str:
        return f"{{path: '{getattr(files, data)}', reader: {self.reader}}}"


BASE = Stage("base", "base model: random weights, trained on prose", "base", "prose", "messages")
ASSISTANT = Stage(
    "assistant",
    "assistant: the base model, fine-tuned on demonstrations (SFT)",
    "assistant",
    "demonstrations",
    "dolly",
    before="base",
    goal=EXACT,
)
DPO = Stage(
    "dpo",
    "dpo: the assistant, trained to prefer courteous and correct replies (DPO)",
    "preferences",
    "preferences",
    "preference-text",
    before="assistant",
    validation=("held_out_tones", "held_out_mistakes"),
    goal=COURTEOUS,
)
REWARD = Stage(
    "reward",
    "reward: a reward model, trained on the same and more preferences",
    "reward",
    "comparisons",
    "preference-text",
    before="assistant",
    validation=("held_out_tones", "held_out_mistakes"),
    replies=False,
)
PPO = Stage(
    "ppo",
    "ppo: the assistant, rewarded for correct and courteous replies (PPO)",
    "ppo",
    "demonstrations",
    "dolly",
    before="assistant",
    validation=("held_out",),
    checks=("checks_right", "checks_courteous"),
    goal=BOTH,
)
CAUSAL = (BASE, ASSISTANT, DPO)
FULL = (*CAUSAL, REWARD, PPO)
ENCODER_DECODER = (
    Stage(
        "assistant",
        "assistant: an encoder-decoder with random weights, trained on examples",
        "encoder_decoder",
        "demonstrations",
        "dolly",
    ),
)
