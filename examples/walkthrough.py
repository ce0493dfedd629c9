"""From a recipe to replies in Python: load a recipe, train a very small model, sample, score, and ask it.

    python examples/walkthrough.py demonstrations.jsonl pairs.jsonl TOKENIZER_DIRECTORY output

Each line of the first file has ``instruction``, ``context`` and ``response``; each line of the second ``prompt``,
``chosen`` and ``rejected``. The models have random weights and are trained for some steps, so that this is quick on a
CPU; their replies make no sense. With ``model.path`` in place of ``model.init`` the same lines train a real one.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import tunesmith

SMALL = {"architecture": "llama", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}


def recipe(name: str, data: Path, reader: str, tokenizer: Path, output: Path) -> dict[str, Any]:
    """What a recipe file would hold. Every other value is that of the recipe that it extends."""
    return {
        "extends": name,
        "name": name,
        "model": {"init": {**SMALL, "num_key_value_heads": 2, "intermediate_size": 64}, "tokenizer": str(tokenizer)},
        "text": {"format": "chatml", "max_length": 200},
        "data": {"sources": [{"path": str(data), "reader": reader}], "cache": str(output / "cache"), "workers": 0},
        "run": {"directory": str(output / name)},
    }


def walk(demonstrations: Path, pairs: Path, tokenizer: Path, output: Path, steps: int = 30) -> str:
    """Every function of the module in turn; returns a reply."""
    # 1. A recipe is checked as a whole, before PyTorch is imported: all mistakes at once, each with its key.
    length = ("train.epochs=null", f"train.steps={steps}", "train.learning_rate=1e-2")
    assistant = tunesmith.load_recipe(recipe("sft", demonstrations, "dolly", tokenizer, output), *length)
    judge = tunesmith.load_recipe(recipe("reward", pairs, "preference-text", tokenizer, output), *length)
    print("learning rate:", assistant.recipe.train.learning_rate, "given by", assistant.origins["train.learning_rate"])

    # 2. The masks are verified on these records before the first step. The same call continues a run that was stopped.
    trained, reward = tunesmith.train_recipe(assistant), tunesmith.train_recipe(judge)
    print("exported:", trained.export, "after", trained.steps, "steps")

    # 3. Replies to the same prompts, as a report that `tunesmith compare` shows.
    prompts = output / "prompts.txt"
    prompts.write_text("Say red blue.\nSay old.\n", encoding="utf-8")
    reports = tunesmith.sample(
        [trained.directory], prompts=prompts, output=output / "reports", sampling=["noprefix:greedy"], max_new_tokens=8
    )

    # 4. The reward model scores them. Only differences between scores have a meaning.
    scores = tunesmith.score(reward.directory, reports, output=output / "scores.json")
    print("mean reward:", scores[0]["mean_reward"])

    # 5. The model as a function.
    generate = tunesmith.pipeline(trained.directory, max_new_tokens=8)
    reply: str = generate("Say red blue.", seed=7)[0]["generated_text"]
    print("reply:", reply)
    return reply


def main() -> None:
    """Read the arguments and walk."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("demonstrations", "pairs", "tokenizer", "output"):
        parser.add_argument(name, type=Path)
    given = parser.parse_args()
    walk(given.demonstrations, given.pairs, given.tokenizer, given.output)


if __name__ == "__main__":
    main()
