"""Supervised fine-tuning in one file: from lines of JSON to a model directory that stock transformers loads.

    python examples/sft_loop.py demonstrations.jsonl TOKENIZER_DIRECTORY output

Every line is a record with ``instruction``, ``context`` and ``response``. The file uses the public parts of Tunesmith
without recipe, checkpoints or evaluation, so that the path from a record to a weight update can be read in one go:

    record -> Tree -> TokenTree -> packed batch -> log-probabilities -> loss -> gradients -> weights

`tunesmith train` with the same settings gives the same bits (tests/examples/test_examples.py).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel

from tunesmith.batch.example import Example
from tunesmith.batch.packed import collate_packed
from tunesmith.data.dataset.plan import Plan
from tunesmith.data.readers.reader import ReadTree
from tunesmith.data.readers.registry import open_reader
from tunesmith.draws import stream_seed
from tunesmith.model.export import ExportInfo, export
from tunesmith.model.load import new_model
from tunesmith.model.policy import Policy
from tunesmith.model.vocabulary import resize_vocabulary
from tunesmith.objectives.sft import SupervisedFineTuning
from tunesmith.text.formats.registry import build_format
from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tokens.token_tree import TokenTree
from tunesmith.text.tree import Tree
from tunesmith.train.optim.optimizers import AdamW, clip_coefficient
from tunesmith.train.optim.schedules import cosine


@dataclass(frozen=True)
class Settings:
    """The keys of a recipe that matter here, with the same names and meanings."""

    seed: int = 5
    max_length: int = 200  # longer threads are dropped
    steps: int = 30
    batch_size: int = 4  # examples in each optimizer step
    micro_batch_tokens: int = 200
    learning_rate: float = 1e-2
    warmup_steps: int = 3
    clip: float = 1.0
    resize: int = 16  # the embedding gets a multiple of so many rows


MODEL = {  # a small Llama with random weights; model.load.load_model reads a pretrained one
    "architecture": "llama",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
}


def read_trees(path: Path) -> Iterator[Tree]:
    """One tree of messages for each record: a question with its context, and the answer of the assistant."""
    read = open_reader("dolly", fields={}, options={})
    for line in path.read_text(encoding="utf-8").splitlines():
        found = read(json.loads(line))
        assert isinstance(found, ReadTree), "a reader returns a tree, or the reason why a row is filtered"
        yield found.tree


def tokenize(trees: Iterator[Tree], renderer: Renderer, max_length: int) -> list[TokenTree]:
    """Token ids and targets. Targets are the tokens that the model must produce: the reply and its end token."""
    found = []
    for tree in trees:
        tokens = renderer.render(tree)
        if len(tokens.ids) <= max_length:
            found.append(tokens)
    return found


def make_model(renderer: Renderer, settings: Settings) -> PreTrainedModel:
    """A new model with a row in the embedding for every token."""
    model = new_model(MODEL, renderer.tokenizer.size, stream_seed(settings.seed, "init"))
    resize_vocabulary(model, renderer.tokenizer.size, settings.resize, stream_seed(settings.seed, "resize"))
    return model


def train(model: PreTrainedModel, trees: list[TokenTree], settings: Settings) -> None:
    """Update the weights in place."""
    policy, objective = Policy(model), SupervisedFineTuning()
    optimizer = AdamW(policy.parameters())
    schedule = cosine(settings.learning_rate, settings.warmup_steps, settings.steps)
    # Which examples a step takes is a function of the seed and the number of the step.
    seed = stream_seed(settings.seed, "order")
    plan = Plan(np.ones(len(trees)), settings.batch_size, epochs=None, steps=settings.steps, seed=seed)
    for step in range(settings.steps):
        examples = [Example(number, trees[number]) for number in plan.step(step).examples]
        batches = list(collate_packed(examples, "threads", settings.micro_batch_tokens))
        # The targets of the whole step are counted first, so the update does not depend on the micro-batches.
        units = sum(objective.units(batch) for batch in batches)
        policy.train()
        total = 0.0
        for batch in batches:
            found = objective(policy, batch, units)
            found.loss.backward()
            total += float(found.sums["loss"])
        norm, scale = clip_coefficient(policy.parameters(), settings.clip, step)
        optimizer.step(schedule(step), scale)
        optimizer.zero_grad()
        print(f"step {step + 1}/{settings.steps}  loss {total / units:.4f}  gradient norm {norm:.2f}")


def sft(data: Path, tokenizer: Path, output: Path, settings: Settings) -> None:
    """Train on the records of ``data`` and write a Hugging Face directory to ``output``."""
    torch.set_flush_denormal(True)  # second moments of rare tokens decay into denormal numbers, which are slow
    format = build_format("dolly")
    renderer = Renderer(format, Tokenizer.load(str(tokenizer), format.controls))
    trees = tokenize(read_trees(data), renderer, settings.max_length)
    model = make_model(renderer, settings)
    train(model, trees, settings)
    info = ExportInfo(
        format="dolly",
        options={},
        max_length=settings.max_length,
        sampling={"max_new_tokens": 256, "do_sample": False},
        base="new",
        recipe="examples/sft_loop.py",
        steps=settings.steps,
    )
    export(output, model, renderer.tokenizer, format, info)
    print(f"exported to {output}; chat with it: tunesmith chat {output}")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Supervised fine-tuning in one file.")
    parser.add_argument(
        "data", type=Path, help="records with instruction, context and response, one JSON object a line"
    )
    parser.add_argument("tokenizer", type=Path, help="directory with a tokenizer.json")
    parser.add_argument("output", type=Path, help="directory for the trained model")
    arguments = parser.parse_args()
    sft(arguments.data, arguments.tokenizer, arguments.output, Settings())


if __name__ == "__main__":
    main()
