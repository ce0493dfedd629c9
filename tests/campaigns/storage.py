"""What fewer bits for weights, gradients and moments cost: the validation loss after training a small real model.

    TUNESMITH_REAL_DATA=DIR python -m tests.campaigns.storage [--steps 200] [--rates 1e-5 1e-3] [--json FILE]

stories260K is trained on texts of databricks-dolly-15k, with two micro-batches a step. All arithmetic is float32, which
is fast on a CPU: the model gets the stored weights before each step, and its gradients are rounded to bfloat16, as the
products of a GPU are. So only the optimizers' ways to store things differ. The campaign fails if 8-bit moments change
the loss by more than 0.001 nats against float32 moments with the same weights and gradients.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from tunesmith.compose.components.optimizer import hidden_matrices
from tunesmith.model.split import WeightFormat, WeightStorage, join
from tunesmith.train.optim.muon import Muon
from tunesmith.train.optim.optimizers import AdamW, Optimizer, clip_coefficient
from tunesmith.train.optim.storage import REST, StateFormat

ALLOWED = 0.001
LONGEST, SHORTEST, BATCH, MICRO_BATCHES, VALIDATION = 128, 32, 8, 2, 400


class Storage(NamedTuple):
    """What is stored how. bytes: of each weight, without the scales of 8-bit moments."""

    weights: WeightFormat
    gradients: str
    moments: str
    bytes: int
    optimizer: str = "adamw"

    @property
    def name(self) -> str:
        return " / ".join((*self[:3], *(["muon"] if self.optimizer == "muon" else [])))

    @property
    def reference(self) -> str:
        """The name of the same with moments in float32."""
        return self._replace(moments="float32").name


STORED = (
    Storage("float32", "float32", "float32", 16),
    Storage("split", "float32", "float32", 16),
    Storage("split", "bfloat16", "float32", 14),
    Storage("split", "float32", "8bit", 10),
    Storage("split", "bfloat16", "8bit", 8),
    Storage("bfloat16-stochastic", "bfloat16", "float32", 12),
    Storage("bfloat16-stochastic", "bfloat16", "8bit", 6),
    Storage("split", "float32", "float32", 12, "muon"),
    Storage("split", "float32", "8bit", 9, "muon"),
)


def read_texts(data: Path) -> list[Tensor]:
    """The token ids of all records that are long enough, int64 [tokens] each."""
    tokenizer = AutoTokenizer.from_pretrained(data / "models/stories260K")
    records = map(json.loads, (data / "dolly/dolly-6000.jsonl").read_text(encoding="utf-8").splitlines())
    texts = (f"Instruction: {each['instruction']}\nResponse: {each['response']}"[:700] for each in records)
    ids = (tokenizer(text).input_ids[:LONGEST] for text in texts)
    return [torch.tensor(each) for each in ids if len(each) > SHORTEST]


def loss_of(model: PreTrainedModel, texts: Sequence[Tensor]) -> tuple[Tensor, int]:
    """(sum of the losses of all tokens but the first of each text, their number)."""
    ids = nn.utils.rnn.pad_sequence(list(texts), batch_first=True)
    targets = nn.utils.rnn.pad_sequence([text[1:] for text in texts], batch_first=True, padding_value=-100)
    logits = model(input_ids=ids[:, :-1], use_cache=False).logits
    return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum"), int(
        (targets >= 0).sum()
    )


def batches(texts: Sequence[Tensor], steps: int) -> Iterator[list[Tensor]]:
    draw = torch.Generator().manual_seed(0)
    for _ in range(steps):
        yield [texts[index] for index in torch.randint(0, len(texts), (BATCH,), generator=draw).tolist()]


def build_optimizer(storage: Storage, stored: dict[str, nn.Parameter], hidden: Sequence[str], rate: float) -> Optimizer:
    """The optimizer of parameters that are stored as ``storage`` says, in place."""
    weights = WeightStorage(storage.weights)
    weights.store(nn.ParameterList(stored.values()))
    keys = StateFormat(
        gradients=torch.bfloat16 if storage.gradients == "bfloat16" else torch.float32,
        moments="8bit" if storage.moments == "8bit" else "float32",
        rests=weights.rests,
        rounding_seed=1 if storage.weights == "bfloat16-stochastic" else None,
    )
    if storage.optimizer == "muon":
        return Muon(stored, hidden, learning_rate=rate, adamw_learning_rate=rate, betas=(0.9, 0.95), storage=keys)
    return AdamW(stored, betas=(0.9, 0.95), storage=keys)


def train(storage: Storage, rate: float, steps: int, directory: Path, texts: Sequence[Tensor]) -> float:
    """The validation loss after training, in nats a token."""
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).train()
    parameters = dict(model.named_parameters())
    stored = {name: nn.Parameter(each.detach().clone()) for name, each in parameters.items()}
    optimizer = build_optimizer(storage, stored, hidden_matrices(model), rate)
    for step, batch in enumerate(batches(texts[:-VALIDATION], steps)):
        for name, parameter in parameters.items():
            parameter.data.copy_(stored[name].detach().bfloat16())
        count = sum(len(text) - 1 for text in batch)
        for start in range(0, BATCH, BATCH // MICRO_BATCHES):
            loss, _ = loss_of(model, batch[start : start + BATCH // MICRO_BATCHES])
            (loss / count).backward()
            for name, parameter in parameters.items():
                assert parameter.grad is not None
                part, parameter.grad = parameter.grad.bfloat16().to(stored[name].grad_dtype), None
                gradient = stored[name].grad
                stored[name].grad = part if gradient is None else gradient + part
        optimizer.step(rate, clip_coefficient(stored, 1.0, step)[1])
        optimizer.zero_grad()
    rests = optimizer.state_dict()
    for name, parameter in parameters.items():
        exact, rest = stored[name].detach(), rests.get(f"{name}{REST}")
        parameter.data.copy_(exact if rest is None else join(exact, rest))
    return validate(model.eval(), texts[-VALIDATION:])


@torch.no_grad()
def validate(model: PreTrainedModel, texts: Sequence[Tensor]) -> float:
    """The mean loss of a token, in nats."""
    found = [loss_of(model, texts[start : start + 50]) for start in range(0, len(texts), 50)]
    return float(sum(loss for loss, _ in found)) / sum(count for _, count in found)


def table(losses: Mapping[str, Mapping[str, float]], rates: Sequence[str]) -> str:
    """One row for each way to store, one column for each learning rate."""
    rows = [f"{'weights / gradients / moments':44}bytes" + "".join(f"{'lr ' + rate:>12}" for rate in rates)]
    for storage in STORED:
        values = "".join(f"{losses[storage.name][rate]:12.4f}" for rate in rates)
        rows.append(f"{storage.name:44}{storage.bytes:5}{values}")
    return "\n".join(rows)


def find_costs(losses: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Where 8-bit moments change the loss by more than ``ALLOWED``."""
    return [
        f"{storage.name} at {rate}: {loss - losses[storage.reference][rate]:+.4f} nats"
        for storage in STORED
        if storage.moments == "8bit"
        for rate, loss in losses[storage.name].items()
        if not abs(loss - losses[storage.reference][rate]) <= ALLOWED
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rates", nargs="+", default=["1e-5", "1e-3"])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if "TUNESMITH_REAL_DATA" not in os.environ:
        raise SystemExit("set TUNESMITH_REAL_DATA to the directory with models/stories260K and dolly/dolly-6000.jsonl")
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    data = Path(os.environ["TUNESMITH_REAL_DATA"])
    texts = read_texts(data)
    losses: dict[str, dict[str, float]] = {storage.name: {} for storage in STORED}
    for rate in options.rates:
        for storage in STORED:
            loss = train(storage, float(rate), options.steps, data / "models/stories260K", texts)
            losses[storage.name][rate] = loss
            print(f"{storage.name} at {rate}: {loss:.5f}", file=sys.stderr, flush=True)
    if options.json:
        options.json.write_text(json.dumps(losses, indent=2) + "\n")
    print(table(losses, options.rates))
    if found := find_costs(losses):
        raise SystemExit("8-bit moments cost more than allowed: " + "; ".join(found))


if __name__ == "__main__":
    main()
