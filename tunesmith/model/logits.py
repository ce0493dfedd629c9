"""How a family computes its logits from the product of hidden states and head: by factors and by a soft cap.

Both are measured on the model itself. Hooks read what the head receives and replace what it returns by known numbers,
so that the result holds for any weights, also for random ones whose logits are too small to show a cap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tunesmith.errors import RecipeError
from tunesmith.model.failures import FAMILY_ERRORS, describe_failure
from tunesmith.model.modes import evaluation_mode

PROBED_TOKENS = 4
SMALL, LARGE = 2.0**-10, 2.0**100  # logits that a cap leaves alone, and that it cuts to its value
TOLERANCE = 1e-5  # largest relative difference that rounding explains


@dataclass(frozen=True, slots=True)
class LogitRule:
    """logits = capped((states * states_factor) @ head.T + bias), capped(x) = cap * tanh(factor * x / cap).

    states_factor: factor of the hidden states, as in MiniCPM 3.
    factor: factor of the product, as in Cohere and Granite.
    cap: None where capped(x) is ``factor * x``; otherwise the limit of the logits, as in Gemma 2.
    """

    states_factor: float = 1.0
    factor: float = 1.0
    cap: float | None = None

    def apply(self, product: Tensor) -> Tensor:
        """The logits of what the head returns, in any shape."""
        scaled = product * self.factor
        return scaled if self.cap is None else self.cap * torch.tanh(scaled / self.cap)


@torch.no_grad()
def measure_logit_rule(model: PreTrainedModel) -> LogitRule:
    """The rule of a causal model. Raises RecipeError if it has no head, or another rule than ``LogitRule``."""
    head: nn.Module | None = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    if not isinstance(head, nn.Linear):
        raise _refuse(model, "it has no head over the vocabulary that is one linear layer")
    seen: dict[str, Tensor] = {}
    planted = _planted_products(head)

    def read_hidden(module: nn.Module, inputs: Any, output: Any) -> None:
        seen["hidden"] = output.last_hidden_state

    def replace_product(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        seen["input"] = inputs[0]
        return planted.to(output.dtype).expand(output.shape)

    handles = [model.base_model.register_forward_hook(read_hidden), head.register_forward_hook(replace_product)]
    try:
        ids = torch.arange(PROBED_TOKENS, device=head.weight.device)[None]
        with evaluation_mode(model), torch.autocast(head.weight.device.type, enabled=False):
            logits: Tensor = model(input_ids=ids, use_cache=False).logits
    except FAMILY_ERRORS as error:
        raise _refuse(model, f"it cannot read token ids alone ({describe_failure(error)})") from error
    finally:
        for handle in handles:
            handle.remove()
    if logits.shape[-1] != len(head.weight):
        raise _refuse(model, f"its head has {len(head.weight):,} rows, but it gives {logits.shape[-1]:,} logits")
    return _find_rule(model, seen, planted, logits[0, -1].float())


def _planted_products(head: nn.Linear) -> Tensor:
    """float32 [V]: a small and a very large number, then a range of usual ones."""
    found = torch.linspace(-80.0, 80.0, len(head.weight), device=head.weight.device)
    found[0], found[1] = SMALL, LARGE
    return found


def _find_rule(model: PreTrainedModel, seen: dict[str, Tensor], planted: Tensor, logits: Tensor) -> LogitRule:
    if "hidden" not in seen or "input" not in seen or seen["hidden"].shape != seen["input"].shape:
        raise _refuse(model, "its head does not read the last hidden states")
    hidden, read = seen["hidden"].float(), seen["input"].float()
    states_factor = 1.0
    if not torch.equal(hidden, read) and bool(torch.isfinite(hidden).all()):  # the self-test reports NaN
        largest = int(hidden.abs().argmax())
        states_factor = float(read.flatten()[largest] / hidden.flatten()[largest])
        if not torch.allclose(read, hidden * states_factor, rtol=TOLERANCE, atol=TOLERANCE * float(read.abs().max())):
            raise _refuse(model, "there are further layers between the last hidden states and its head")
    factor = float(logits[0]) / SMALL
    capped = abs(float(logits[1])) < abs(factor) * LARGE * 0.5
    rule = LogitRule(states_factor, factor, float(logits[1]) if capped else None)
    if not torch.allclose(logits, rule.apply(planted), rtol=TOLERANCE, atol=TOLERANCE):
        raise _refuse(model, "its logits are not the product with the head, times a factor and softly capped")
    return rule


def _refuse(model: PreTrainedModel, reason: str) -> RecipeError:
    return RecipeError(
        f"{type(model).__name__} cannot be trained here: {reason}",
        where="model",
        advice="use a family that docs/families.md lists as trained",
    )
