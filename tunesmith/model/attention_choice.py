"""Which attention a loaded model uses: that of ``model.attention``, or the one in the code of its family.

Both are looked up by name at every forward pass, so a model can change between them without a second copy of its
weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from transformers import PretrainedConfig, PreTrainedModel

STOCK = "eager"
"""transformers' name of the attention that is written out in the code of every family."""


def _configurations(model: PreTrainedModel) -> list[PretrainedConfig]:
    """The configurations that the modules of a model read, each once, with those nested in them."""
    found: dict[int, PretrainedConfig] = {}
    waiting: list[object] = [getattr(module, "config", None) for module in model.modules()]
    while waiting:
        config = waiting.pop()
        if isinstance(config, PretrainedConfig) and id(config) not in found:
            found[id(config)] = config
            waiting.extend(getattr(config, name, None) for name in config.sub_configs)
    return list(found.values())


def use_stock_attention(model: PreTrainedModel) -> None:
    """Let a model compute with its stock attention from now on."""
    for config in _configurations(model):
        config._attn_implementation_internal = STOCK


@contextmanager
def stock_attention(model: PreTrainedModel) -> Iterator[None]:
    """A model computes with its stock attention for a while."""
    with attention_restored(model):
        use_stock_attention(model)
        yield


def uses_stock_attention(model: PreTrainedModel) -> bool:
    """Whether a model computes with its stock attention now."""
    return all(config._attn_implementation == STOCK for config in _configurations(model))


@contextmanager
def attention_restored(model: PreTrainedModel) -> Iterator[None]:
    """After the block a model computes with the attention that it had before it."""
    before = [(config, config._attn_implementation) for config in _configurations(model)]
    try:
        yield
    finally:
        for config, name in before:
            config._attn_implementation_internal = name
