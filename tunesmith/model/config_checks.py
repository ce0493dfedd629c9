"""What a configuration asks of training that is not done here: further losses."""

from __future__ import annotations

from transformers import PretrainedConfig


def find_config_fault(config: PretrainedConfig) -> tuple[str, str] | None:
    """(what cannot be done, what the user may do) for a model that generates text; None if nothing is wrong."""
    text = config.get_text_config()
    if getattr(text, "output_router_logits", False):
        return (
            "output_router_logits asks for a loss that balances the experts. It depends on how a step is divided into "
            "micro-batches, so it is not part of training here",
            "set output_router_logits to false in a copy of the configuration",
        )
    if float(getattr(text, "z_loss_coefficient", 0.0) or 0.0) > 0.0:
        return (
            "z_loss_coefficient asks for a penalty on the logits, which is a key of the recipe here",
            "set z_loss_coefficient to 0 in a copy of the configuration, and objective.z_loss in the recipe",
        )
    return None
