"""Generated data for tests of whole runs: a tokenizer, a file of demonstrations, and recipes that train on them."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Sequence
from pathlib import Path

import yaml

from tests.text.small_tokenizers import byte_level, t5_like, write_tokenizer
from tunesmith.model.reward_model import new_reward_model
from tunesmith.recipe.load import LoadedRecipe, load
from tunesmith.text.formats.registry import build_format
from tunesmith.text.tokenizer.tokenizer import Tokenizer

ARCHITECTURES = {
    "gpt_neox": "{architecture: gpt_neox, hidden_size: 32, num_hidden_layers: 2, num_attention_heads: 4, "
    "intermediate_size: 64}",
    "llama": "{architecture: llama, hidden_size: 32, num_hidden_layers: 2, num_attention_heads: 4, "
    "num_key_value_heads: 2, intermediate_size: 64}",
    "t5": "{architecture: t5, d_model: 32, d_kv: 8, d_ff: 64, num_layers: 2, num_heads: 4, "
    "feed_forward_proj: gated-gelu, tie_word_embeddings: false}",
}

RECIPE = """\
name: small
seed: 5
model:
  init: {init}
  tokenizer: {root}/tokenizer
  resize: 16
  residual_dropout: 0.1
text: {{format: {format}, max_length: 200}}
data:
  sources:
    - {{path: {root}/demonstrations.jsonl, reader: dolly}}
  validation: 12
  cache: {root}/cache
  workers: 0
train:
  steps: 30
  batch_size: 4
  micro_batch_tokens: 200
  learning_rate: 1e-2
  schedule: {{kind: cosine, warmup_steps: 3}}
  evaluate_every: 10
  save_every: 7
  keep: 2
  log_every: 10
run: {{directory: {root}/run}}
"""


def write_world(root: Path, *, architecture: str = "llama", format: str | None = None, records: int = 60) -> Path:
    """Write the files and return the path of the recipe. format: by default dolly or t5-dolly, by architecture."""
    root.mkdir(parents=True, exist_ok=True)
    format = format or ("t5-dolly" if architecture == "t5" else "dolly")
    end = "<|endoftext|>"
    if architecture == "t5":
        write_tokenizer(root / "tokenizer", t5_like(), eos="</s>", unk="<unk>", pad="<pad>")
    else:
        write_tokenizer(root / "tokenizer", byte_level(), bos=end, eos=end, unk=end)
    draw = random.Random(3)
    lines = []
    for number in range(records):
        words = [draw.choice(("red", "blue", "old", "new", "big", "small")) for _ in range(draw.randint(1, 6))]
        context = "A passage about colours." if number % 3 == 0 else ""
        record = {"instruction": f"Say {' '.join(words)}.", "context": context, "response": " ".join(words)}
        lines.append(json.dumps({**record, "category": "open_qa"}))
    (root / "demonstrations.jsonl").write_text("\n".join(lines) + "\n")
    recipe = root / "recipe.yaml"
    recipe.write_text(RECIPE.format(root=root, init=ARCHITECTURES[architecture], format=format))
    return recipe


def write_preferences(root: Path, *, architecture: str = "llama", format: str = "oasst", records: int = 60) -> Path:
    """Write the files, and pairs and rankings of three in addition; return the path of a recipe of DPO on them."""
    recipe = write_world(root, architecture=architecture, format=None if architecture == "t5" else format)
    draw = random.Random(4)
    lines = []
    for number in range(records):
        words = [draw.choice(("red", "blue", "old", "new", "big", "small")) for _ in range(draw.randint(1, 6))]
        replies = [" ".join(words), " ".join([*words[:-1], "no"]), "what " * draw.randint(1, 3)]
        answers = [{"answer": text, "rank": rank} for rank, text in enumerate(replies[: 2 + number % 2], 1)]
        lines.append(json.dumps({"prompt": f"\n\nHuman: Say {' '.join(words)}.\n\nAssistant: ", "answers": answers}))
    (root / "rankings.jsonl").write_text("\n".join(lines) + "\n")
    text = recipe.read_text().replace("demonstrations.jsonl, reader: dolly", "rankings.jsonl, reader: nectar")
    text = text.replace("learning_rate: 1e-2", "learning_rate: 2e-3")
    recipe.write_text(text + "objective: {kind: dpo}\n")
    return recipe


def small_recipe(
    root: Path, overrides: Sequence[str] = (), *, architecture: str = "llama", format: str | None = None
) -> LoadedRecipe:
    """The recipe of ``write_world`` with overrides; its files are written if they do not exist."""
    recipe = root / "recipe.yaml"
    if not recipe.exists():
        write_world(root, architecture=architecture, format=format)
    return load([str(recipe)], overrides)


def preference_recipe(root: Path, overrides: Sequence[str] = (), *, architecture: str = "llama") -> LoadedRecipe:
    """The recipe of ``write_preferences`` with overrides; its files are written if they do not exist."""
    recipe = root / "recipe.yaml"
    if not recipe.exists():
        write_preferences(root, architecture=architecture)
    return load([str(recipe)], overrides)


PPO = """\
kind: ppo
prompts_per_iteration: 6
samples: 2
epochs_per_iteration: 2
max_new_tokens: 8
temperature: 0.8
rewards: [{{kind: model, path: {root}/reward-model, scale: 3}}, {{kind: check, path: {root}/checks.jsonl}}]
kl_target: 0.05
kl_horizon: 50
kl_stop: 0.01
value_warmup_steps: 2
value: {value}
"""


def ppo_recipe(
    root: Path, overrides: Sequence[str] = (), *, value: str = "separate", architecture: str = "llama"
) -> LoadedRecipe:
    """A recipe of PPO: a random reward model and checks as rewards, early stops, an adaptive KL coefficient."""
    recipe = root / "recipe.yaml"
    if not recipe.exists():
        write_world(root, architecture=architecture)
        write_rewards(root, architecture)
    objective = json.dumps(yaml.safe_load(PPO.format(root=root, value=value)))
    mine = [f"objective={objective}", "model.residual_dropout=0", "train.batch_size=3", "train.learning_rate=3e-3"]
    return load([str(recipe)], [*mine, *overrides])


def write_rewards(root: Path, architecture: str) -> None:
    """Write a random reward model with the same tokenizer, and a check for every prompt."""
    controls = build_format("dolly").controls
    size = Tokenizer.load(str(root / "tokenizer"), controls).size
    model = new_reward_model(yaml.safe_load(ARCHITECTURES[architecture]), size, 11)
    shutil.copytree(root / "tokenizer", root / "reward-model")
    model.save_pretrained(root / "reward-model")
    records = [json.loads(line) for line in (root / "demonstrations.jsonl").read_text().splitlines()]
    checked = [{**record, "check": {"one_of": [record["response"]]}} for record in records]
    (root / "checks.jsonl").write_text("".join(json.dumps(record) + "\n" for record in checked))
