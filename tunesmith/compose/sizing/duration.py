"""Hours of a run, from its tokens and a speed that is assumed or was measured."""

from __future__ import annotations

from dataclasses import dataclass

from tunesmith.compose.sizing.hardware import Gpu
from tunesmith.compose.sizing.run import SizedRun, state_settings
from tunesmith.compose.sizing.settings import Distribution
from tunesmith.recipe.objectives import PpoConfig

UTILISATION = 0.40
"""Share of the published rate that is assumed, by 6 operations for each parameter and token, without recomputation."""
RECOMPUTED_UTILISATION = 0.35
"""The same where all layers are recomputed, which takes a third more operations."""
OPERATIONS = 6
"""Floating-point operations for a parameter and a token. A token of an encoder-decoder passes one half of the model."""
LAYER_SECONDS = 4e-4
"""Assumed time of one layer in one step of generation, in which the GPU waits for the host."""
HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Duration:
    """How long a run takes.

    rate: tokens a second of all GPUs together while they train.
    training, copying, generating: seconds of all steps, of offloaded moments, and of replies. None without counts.
    """

    rate: float
    training: float | None
    copying: float | None
    generating: float | None

    @property
    def hours(self) -> float | None:
        """Hours of all parts that are known; None if the tokens are not."""
        if self.training is None:
            return None
        return (self.training + (self.copying or 0.0) + (self.generating or 0.0)) / HOUR


def utilisation(recomputed: float) -> float:
    """The assumed share of the published rate. recomputed: share of the layers."""
    return UTILISATION + (RECOMPUTED_UTILISATION - UTILISATION) * recomputed


def estimate_duration(run: SizedRun, gpu: Gpu, spread: Distribution, measured: float | None = None) -> Duration:
    """measured: tokens a second of one GPU, from a probe; None: it is assumed."""
    share = utilisation(float(run.recipe.model.gradient_checkpointing))
    passed = OPERATIONS * run.trained_parameters / (2 if run.pads else 1)
    one = share * gpu.rate / passed if measured is None else measured
    rate = one * spread.processes
    tokens, steps = run.data.tokens, run.data.steps
    return Duration(
        rate=rate,
        training=None if tokens is None else tokens / rate,
        copying=None if steps is None else steps * _copying(run, gpu, spread),
        generating=None if steps is None else _generation_seconds(run, gpu, spread, steps),
    )


def _copying(run: SizedRun, gpu: Gpu, spread: Distribution) -> float:
    return copy_seconds(run, gpu, spread) if state_settings(run.recipe).offload else 0.0


def copy_seconds(run: SizedRun, gpu: Gpu, spread: Distribution) -> float:
    """Seconds of a step in which offloaded moments would go to the GPU and back."""
    states = state_settings(run.recipe)
    trained = [run.network, *(each.network for each in run.further if each.trained)]
    return 2 * sum(states.moment_bytes(each) for each in trained) / spread.parts / gpu.host_bandwidth


def _generation_seconds(run: SizedRun, gpu: Gpu, spread: Distribution, steps: int) -> float:
    """PPO: every token of a reply is one step of the whole model for all rows."""
    keys = run.recipe.objective
    if not isinstance(keys, PpoConfig):
        return 0.0
    prompts = steps * run.recipe.train.batch_size / keys.epochs_per_iteration
    replies = prompts * keys.samples / spread.processes
    size = run.network.parameters * state_settings(run.recipe).compute_bytes
    step = max(LAYER_SECONDS * run.network.layers, size / gpu.bandwidth)
    return replies / max(1, run.workload().replies) * keys.max_new_tokens * step
