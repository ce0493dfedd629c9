"""Very short runs, and what the files of a finished one hold: digests, for comparing two bit for bit, and texts."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tests.worlds import ppo_recipe, preference_recipe, small_recipe
from tunesmith.compose import train_recipe

RECORDS = ("metrics.jsonl", "consumed.jsonl", "export/model.safetensors")


def digests(run: Path) -> dict[str, str]:
    """SHA-256 of the last weights, the state of the optimizer, the metrics, the consumed examples and the export."""
    last = max((run / "checkpoints").glob("step-*"), key=lambda path: (int(path.name.split("-")[1]), path.name))
    weights = [str(path.relative_to(run)) for path in sorted(last.glob("*.safetensors"))]
    assert any("optimizer" in name for name in weights), weights
    return {name: hashlib.sha256((run / name).read_bytes()).hexdigest() for name in (*weights, *RECORDS)}


def files_with(directory: Path, text: str) -> list[str]:
    """The names of the files below a directory that hold a text, in their order."""
    files = [path for path in sorted(directory.rglob("*")) if path.is_file()]
    assert files
    return [path.relative_to(directory).as_posix() for path in files if text.encode() in path.read_bytes()]


def train_small_run(root: Path, method: str, *overrides: str, name: str = "run") -> Path:
    """Train a very short run in a world of a method, which is written first if it is not there; returns its directory.

    method: sft, dpo or ppo.
    """
    given = [f"run.directory={root / name}", *SMALL[method], *overrides]
    return train_recipe(WORLDS[method](root, given)).directory


WORLDS = {"sft": small_recipe, "dpo": preference_recipe, "ppo": ppo_recipe}
SMALL = {
    "sft": (
        "train.steps=4",
        "train.save_every=2",
        "train.evaluate_every=2",
        "data.validation=12",
        "evaluate.replies=10",
    ),
    "dpo": ("train.steps=3", "train.save_every=2", "train.evaluate_every=null", "data.validation=0"),
    "ppo": ("train.steps=3", "train.save_every=2", "train.evaluate_every=null", "data.validation=0"),
}
"""Settings of runs of a few steps; that of SFT is evaluated and writes replies."""
