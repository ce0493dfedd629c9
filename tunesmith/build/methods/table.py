"""The methods of training by the kind of their objective."""

from __future__ import annotations

from collections.abc import Mapping

from tunesmith.build.methods.dpo import DPO
from tunesmith.build.methods.method import Method
from tunesmith.build.methods.ppo import PPO
from tunesmith.build.methods.reward import REWARD
from tunesmith.build.methods.sft import SFT

METHODS: Mapping[str, Method] = {"sft": SFT, "dpo": DPO, "reward": REWARD, "ppo": PPO}
