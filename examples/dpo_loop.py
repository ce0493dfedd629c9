"""Direct preference optimization in one file: from preference pairs to a model directory that stock transformers loads.

    python examples/dpo_loop.py pairs.jsonl TOKENIZER_DIRECTORY output

Every line is a record with two lists of messages, ``chosen`` and ``rejected``, that begin with the same prompt. A pair
becomes one tree with two branches, so that policy and reference compute the prompt once for both replies:

    record -> Tree with two replies -> TokenTree -> reference log-probabilities -> packed batch -> loss -> weights

`tunesmith train` with the same settings gives the same bits (tests/examples/test_examples.py).
"""

from __future__ import annotations

import argparse
import json
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
from tunesmith.objectives.preference import PreferenceOptimization
from tunesmith.objectives.replies import reply_log_probabilities
from tunesmith.text.formats.registry import build_format
from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tokens.token_tree import TokenTree
from tunesmith.train.optim.optimizers import AdamW, clip_coefficient
from tunesmith.train.optim.schedules import cosine


@dataclass(frozen=True)
class Settings:
    """The keys of a recipe that matter here, with the same names and meanings."""

    seed: int = 5
    max_length: int = 200  # pairs with a longer thread are dropped
    steps: int = 30
    batch_size: int = 4  # pairs in each optimizer step
    micro_batch_tokens: int = 200
    learning_rate: float = 2e-3
    warmup_steps: int = 3
    clip: float = 1.0
    resize: int = 16  # the embedding gets a multiple of so many rows
    beta: float = 0.1


MODEL = {  # a small Llama with random weights; model.load.load_model reads a pretrained one
    "architecture": "llama",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
}


def tokenize(path: Path, renderer: Renderer, max_length: int) -> list[TokenTree]:
    """One token tree for each pair: the prompt, and both replies as its branches with their ranks."""
    read = open_reader("preference", fields={}, options={})
    trees = []
    for line in path.read_text(encoding="utf-8").splitlines():
        found = read(json.loads(line))
        assert isinstance(found, ReadTree), "a reader returns a tree, or the reason why a row is filtered"
        tokens = renderer.render(found.tree)
        if max(len(tokens.thread(end)) for end in tokens.ends()) <= max_length:
            trees.append(tokens)
    return trees


@torch.no_grad()
def compute_reference(policy: Policy, trees: list[TokenTree], micro_batch_tokens: int) -> list[Example]:
    """The trees as examples that carry the reference log-probability of each of their replies."""
    policy.eval()
    values = []
    for batch in collate_packed([Example(*each) for each in enumerate(trees)], "messages", micro_batch_tokens):
        found = policy.log_probabilities(batch).log_probability
        sums, _ = reply_log_probabilities(found, batch.owner, len(batch.replies))
        values.append(sums.float().numpy())
    ends = np.cumsum([len(tree.replies) for tree in trees])
    columns = np.split(np.concatenate(values), ends[:-1])
    return [Example(number, tree, columns={"reference": columns[number]}) for number, tree in enumerate(trees)]


def train(model: PreTrainedModel, trees: list[TokenTree], settings: Settings) -> None:
    """Update the weights in place; the reference is the model as it is now."""
    policy, objective = Policy(model), PreferenceOptimization(beta=settings.beta)
    pairs = compute_reference(policy, trees, settings.micro_batch_tokens)
    optimizer = AdamW(policy.parameters())
    schedule = cosine(settings.learning_rate, settings.warmup_steps, settings.steps)
    seed = stream_seed(settings.seed, "order")
    plan = Plan(np.ones(len(pairs)), settings.batch_size, epochs=None, steps=settings.steps, seed=seed)
    for step in range(settings.steps):
        examples = [pairs[number] for number in plan.step(step).examples]
        batches = list(collate_packed(examples, "messages", settings.micro_batch_tokens))
        units = sum(objective.units(batch) for batch in batches)  # pairs of the whole step
        policy.train()
        loss = margin = 0.0
        for batch in batches:
            found = objective(policy, batch, units)
            found.loss.backward()
            loss += float(found.sums["loss"]) / units
            margin += float(found.sums["rewards/margins"]) / units
        _, scale = clip_coefficient(policy.parameters(), settings.clip, step)
        optimizer.step(schedule(step), scale)
        optimizer.zero_grad()
        print(f"step {step + 1}/{settings.steps}  loss {loss:.4f}  reward margin {margin:.4f}")


def dpo(data: Path, tokenizer: Path, output: Path, settings: Settings) -> None:
    """Train on the pairs of ``data`` and write a Hugging Face directory to ``output``."""
    torch.set_flush_denormal(True)  # second moments of rare tokens decay into denormal numbers, which are slow
    format = build_format("tulu")
    renderer = Renderer(format, Tokenizer.load(str(tokenizer), format.controls), "ranked")
    trees = tokenize(data, renderer, settings.max_length)
    model = new_model(MODEL, renderer.tokenizer.size, stream_seed(settings.seed, "init"))
    resize_vocabulary(model, renderer.tokenizer.size, settings.resize, stream_seed(settings.seed, "resize"))
    train(model, trees, settings)
    info = ExportInfo(
        "tulu", {}, settings.max_length, {}, base="new", recipe="examples/dpo_loop.py", steps=settings.steps
    )
    export(output, model, renderer.tokenizer, format, info)
    print(f"exported to {output}; chat with it: tunesmith chat {output}")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Direct preference optimization in one file.")
    parser.add_argument("data", type=Path, help="records with chosen and rejected messages, one JSON object a line")
    parser.add_argument("tokenizer", type=Path, help="directory with a tokenizer.json")
    parser.add_argument("output", type=Path, help="directory for the trained model")
    arguments = parser.parse_args()
    dpo(arguments.data, arguments.tokenizer, arguments.output, Settings())


if __name__ == "__main__":
    main()
