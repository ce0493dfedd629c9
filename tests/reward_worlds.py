"""Generated ranked replies: the prompt asks for something red, and a reply with more red words is better."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

from tests.text.small_tokenizers import byte_level, write_tokenizer
from tests.worlds import ARCHITECTURES
from tunesmith.recipe.load import LoadedRecipe, load

END = "<|endoftext|>"
RECIPE = """\
name: judge
seed: 5
model:
  init: {init}
  tokenizer: {root}/tokenizer
  resize: 16
text: {{format: oasst, max_length: 120}}
data:
  sources:
    - {{name: pairs, path: {root}/pairs.jsonl, reader: preference-text}}
    - {{name: lists, path: {root}/lists.jsonl, reader: ultrafeedback}}
  validation: 16
  cache: {root}/cache
  workers: 0
objective: {{kind: reward}}
train:
  steps: 30
  batch_size: 8
  micro_batch_tokens: 400
  learning_rate: 3e-3
  schedule: {{kind: cosine, warmup_steps: 3}}
  evaluate_every: 10
  save_every: 7
  keep: 2
  log_every: 10
  best: {{metrics: [{{name: validation/accuracy, mode: max}}, {{name: validation/lists/kendall_tau, mode: max}}]}}
run: {{directory: {root}/run}}
"""


def reply(draw: random.Random, red: int, size: int = 4) -> str:
    words = ["red"] * red + [draw.choice(("blue", "old", "big")) for _ in range(size - red)]
    draw.shuffle(words)
    return " ".join(words)


def write_rankings(root: Path, *, architecture: str = "llama", records: int = 60) -> Path:
    """Write the files and return the path of the recipe. The replies of the pairs have scores, too."""
    root.mkdir(parents=True, exist_ok=True)
    write_tokenizer(root / "tokenizer", byte_level(), bos=END, eos=END, unk=END)
    draw = random.Random(3)
    pairs, lists = [], []
    for number in range(records):
        prompt = f"Say something red, {number}."
        many, few = draw.sample(range(5), 2) if number % 2 else (4, 0)
        many, few = max(many, few), min(many, few)
        scores = {"score_chosen": float(many), "score_rejected": float(few)}
        pairs.append({"prompt": prompt, "chosen": reply(draw, many), "rejected": reply(draw, few), **scores})
        completions = [{"response": reply(draw, red), "overall_score": red, "annotations": {}} for red in (0, 2, 4)]
        for completion in completions:
            completion["annotations"] = {"honesty": {"Rating": str(completion["overall_score"])}}
        lists.append({"instruction": f"List something red, {number}.", "completions": completions})
    (root / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    (root / "lists.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lists))
    recipe = root / "recipe.yaml"
    recipe.write_text(RECIPE.format(root=root, init=ARCHITECTURES[architecture]))
    return recipe


def judge_recipe(root: Path, overrides: Sequence[str] = (), *, architecture: str = "llama") -> LoadedRecipe:
    """The recipe of ``write_rankings`` with overrides; its files are written if they do not exist."""
    recipe = root / "recipe.yaml"
    return load([str(recipe if recipe.exists() else write_rankings(root, architecture=architecture))], overrides)
