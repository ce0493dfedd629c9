"""The methods of training by the kind of their objective."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunesmith.compose.methods.dpo import DPO
from tunesmith.compose.methods.method import Method
from tunesmith.compose.methods.ppo import PPO
from tunesmith.compose.methods.reward import REWARD
from tunesmith.compose.methods.sft import SFT

METHODS: Mapping[str, Method[Any, Any, Any]] = {"sft": SFT, "dpo": DPO, "reward": REWARD, "ppo": PPO}
"""Value of ``objective.kind`` -> its method, which reads ``recipe.objective`` as its keys.

The one place where the types of different methods are forgotten: a method and the keys of that kind belong together.
"""
