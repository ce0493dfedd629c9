"""A valid recipe for tests that change single values of it, and the problems that validation reports."""

from __future__ import annotations

import pytest

from tunesmith.recipe.layers import merge
from tunesmith.recipe.overrides import override
from tunesmith.recipe.problems import InvalidRecipeError
from tunesmith.recipe.reading import LocatedValue, read_text
from tunesmith.recipe.validation import validate

GOOD = """\
name: good
model:
  path: some/model
text:
  format: dolly
  max_length: 512
data:
  sources:
    - path: data/dolly.jsonl
      reader: dolly
  validation: 0.1
train:
  epochs: 2
  batch_size: 8
  learning_rate: 1e-5
  optimizer:
    kind: adamw
    betas: [0.9, 0.95]
  evaluate_every: 10
"""


PPO = "{kind: ppo, prompts_per_iteration: 16, max_new_tokens: 64, rewards: [{kind: model, path: r}]}"
T5 = ["model.path=null", "model.init={architecture: t5}", "model.tokenizer=t", "text.format=t5-dolly"]
REFERENCE = "objective.reference: expected 'start' or 'none' or text that is not empty, got ''"
V_SIZE = "data.validation_sources.0.size: size applies to data.sources only"
MAX_TURN = "data.sources.0.filters.max_turn: unknown key; did you mean 'data.sources.0.filters.max_turns'?"


def good(*words: str) -> LocatedValue:
    located = merge(None, read_text(GOOD, "good.yaml"))
    for word in words:
        located = override(located, word)
    return located


def problems(located: LocatedValue) -> list[str]:
    with pytest.raises(InvalidRecipeError) as caught:
        validate(located)
    return [f"{problem.key}: {problem.message}" for problem in caught.value.problems]
