"""Settings of the process that a run needs, the same at every start of it."""

from __future__ import annotations

import os

import torch
import transformers

from tunesmith.model.devices import best_device
from tunesmith.recipe.schema import Recipe

CUBLAS_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
"""Environment variable that cuBLAS reads when it starts; without it products may add up in another order."""


def configure_process(recipe: Recipe) -> None:
    """Set threads, denormal numbers, deterministic algorithms and the messages of transformers."""
    if recipe.train.threads is not None:
        torch.set_num_threads(recipe.train.threads)
    # Adam's moments of rare tokens decay into denormal numbers, with which a step takes many times as long.
    torch.set_flush_denormal(True)
    use_deterministic_algorithms(recipe.train.deterministic, best_device())
    # The view writes to the terminal, and warnings of transformers are about defaults that are not used here.
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]


def use_deterministic_algorithms(wanted: bool, device: torch.device) -> None:
    """Let PyTorch use only algorithms on a GPU that give the same bits every time, or any; a CPU has no others.

    Sums with atomic additions (``index_add``, gradients of ``index_select`` and of flash attention) depend on the order
    in which threads finish. An operation that has no other form is an error then.
    """
    if device.type != "cuda":
        return
    os.environ.setdefault(CUBLAS_WORKSPACE, ":4096:8")
    torch.use_deterministic_algorithms(wanted)
    # By default new memory is filled with NaN, so that reading it is seen; it costs a pass over every new tensor.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
