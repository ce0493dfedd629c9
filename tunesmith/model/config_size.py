"""Whether a model is as large as the files that it is to be read from, found before any of its weights has memory.

transformers makes weights that the files do not hold, so a configuration of a few bytes could ask for any memory.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import PretrainedConfig, PreTrainedModel

from tunesmith.errors import DataError
from tunesmith.model.directory import CONFIG, ModelDirectory

MOST_TIMES = 4  # weights may be stored once and used twice, or be computed from packed ones
SPARE = 1 << 24  # numbers: heads that are not in the files
SPARE_BUFFERS = 1 << 28  # numbers: masks and tables of positions, which some families keep for each layer


def check_config_size(source: ModelDirectory, config: PretrainedConfig, auto_class: Any, attention: str) -> None:
    """Compare the modules of a configuration, without memory, with the number of parameters in the files.

    source: the model.
    config: as transformers reads it.
    auto_class, attention: how the model is built, as in ``ModelKind``.
    Raises DataError for a model that is much larger than its files.
    """
    try:
        with torch.device("meta"):
            model: PreTrainedModel = auto_class.from_config(config, attn_implementation=attention)
    except Exception:  # any family may fail in any way; loading then fails likewise, or computes while it is built
        return
    stored, wanted = source.count_parameters(), sum(each.numel() for each in model.parameters())
    buffers = sum(each.numel() for each in model.buffers())
    if wanted > MOST_TIMES * stored + SPARE or buffers > MOST_TIMES * stored + SPARE_BUFFERS:
        raise DataError(
            f"{CONFIG} describes a model of {wanted + buffers:,} numbers, but the files hold only {stored:,}",
            where=source.name,
            advice="fetch the model again, with the configuration that belongs to its weights",
        )
