"""How a family computes its logits from the product of hidden states and head: by factors and by a soft cap.

Both are measured on the model itself. Hooks read what the head receives and replace what it returns by known numbers,
so that the result holds for any weights, also for random ones whose logits are too small to show a cap.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tunesmith.errors import RecipeError
from tunesmith.model.attention_choice import stock_attention
from tunesmith.model.body import LISTED, body_of, check_causal
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


def measure_logit_rule(model: PreTrainedModel) -> LogitRule:
    """The rule of a causal model. Raises RecipeError if it has no head, or another rule than ``LogitRule``."""
    try:
        return _measure(model)
    except RecipeError:
        check_causal(model)  # for a model that is not causal, that is the reason
        raise


@torch.no_grad()
def _measure(model: PreTrainedModel) -> LogitRule:
    head: nn.Module | None = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    if not isinstance(head, nn.Linear):
        raise _refuse(model, "it has no head over the vocabulary that is one linear layer")
    read: list[Tensor] = []
    planted = _planted_products(head)

    def replace_product(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        read.append(inputs[0])
        return planted.to(output.dtype).expand(output.shape)

    handle = head.register_forward_hook(replace_product)
    device = head.weight.device
    try:
        ids = torch.arange(PROBED_TOKENS, device=device)[None]
        with evaluation_mode(model), stock_attention(model), torch.autocast(device.type, enabled=False):
            hidden: Tensor = body_of(model)(input_ids=ids, use_cache=False).last_hidden_state
            logits: Tensor = model(input_ids=ids, use_cache=False).logits
    except FAMILY_ERRORS as error:
        raise _refuse(model, f"it cannot read token ids alone ({describe_failure(error)})") from error
    finally:
        handle.remove()
    if logits.shape[-1] != len(head.weight):
        raise _refuse(model, f"its head has {len(head.weight):,} rows, but it gives {logits.shape[-1]:,} logits")
    if len(read) != 1 or read[0].shape != hidden.shape:
        raise _refuse(model, "its head does not read the last hidden states")
    return _find_rule(model, hidden.float(), read[0].float(), planted, logits[0, -1].float())


def _planted_products(head: nn.Linear) -> Tensor:
    """float32 [V]: a small and a very large number, then a range of usual ones."""
    found = torch.linspace(-80.0, 80.0, len(head.weight), device=head.weight.device)
    found[0], found[1] = SMALL, LARGE
    return found


def _find_rule(model: PreTrainedModel, hidden: Tensor, read: Tensor, planted: Tensor, logits: Tensor) -> LogitRule:
    """The rule that explains what was measured.

    hidden, read: float32 [1, T, D], the last hidden states and what the head received.
    planted, logits: float32 [V], the products that the head returned and the logits of the model.
    """
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
        advice=LISTED,
    )
