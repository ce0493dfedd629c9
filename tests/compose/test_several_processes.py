"""A run of several processes has the record of a run of one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY
from tests.reward_worlds import judge_recipe
from tests.train.launched import run_launched
from tests.worlds import ppo_recipe, preference_recipe, small_recipe
from tunesmith.compose import train_recipe
from tunesmith.recipe.load import LoadedRecipe

STEPS = ("train.steps=3", "train.evaluate_every=2", "train.save_every=2", "train.best.save=planned")
TOLERANCE = 1e-5


def t5_recipe(root: Path, overrides: Sequence[str]) -> LoadedRecipe:
    return small_recipe(root, [*overrides, "evaluate.show=0"], architecture="t5")


def replying_recipe(root: Path, overrides: Sequence[str]) -> LoadedRecipe:
    return small_recipe(root, [*overrides, "evaluate.replies=5", "evaluate.max_new_tokens=8"])


def lora_recipe(root: Path, overrides: Sequence[str]) -> LoadedRecipe:
    return ppo_recipe(root, [*overrides, "model.adapter={rank: 4}"], value="separate")


RECIPES: Mapping[str, Callable[[Path, Sequence[str]], LoadedRecipe]] = {
    "sft": replying_recipe,
    "t5": t5_recipe,
    "dpo": preference_recipe,
    "reward": judge_recipe,
    "ppo": ppo_recipe,
    "lora": lora_recipe,
}


def words(directory: Path) -> list[str]:
    return [*STEPS, f"run.directory={directory / 'many'}"]


def train_together(rank: int, directory: Path) -> None:
    train_recipe(RECIPES[directory.name](directory, words(directory)))


def stop_and_continue(rank: int, directory: Path) -> None:
    for stop in ("train.stop_after=1", "train.stop_after=null"):
        try:
            train_recipe(replying_recipe(directory, [*words(directory), stop]))
        except BaseException as error:
            if "stop_after" not in str(error) and str(error) != "75":
                raise
        port = int(os.environ["MASTER_PORT"]) + 1
        os.environ["MASTER_PORT"] = str(port)


def records(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def assert_close(found: Any, expected: Any) -> None:
    """The same keys and values; numbers to rounding."""
    if isinstance(expected, Mapping):
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert_close(found[key], value)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=TOLERANCE, abs=TOLERANCE)
    else:
        assert found == expected


LATER = {"t5": (), "dpo": (pytest.mark.slow,), "reward": (), "lora": (), "ppo": ()}
"""What these add is tested with gradients in tests/test_world.py; `make ranks` runs them, `make test-slow` one."""


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=[pytest.mark.processes, *LATER[kind]] if kind in LATER else ()) for kind in RECIPES],
)
def test_metrics_are_those_of_one_process(kind: str, tmp_path: Path) -> None:
    directory = tmp_path / kind
    alone = train_recipe(RECIPES[kind](directory, [*STEPS, f"run.directory={directory / 'one'}"]))
    ended = run_launched(train_together, 2, directory)
    assert [each.code for each in ended] == [0, 0], ended
    assert ended[1].text == ""
    found, expected = records(directory / "many"), records(alone.directory)
    assert len(found) == len(expected)
    for mine, other in zip(found, expected, strict=True):
        assert_close(mine, other)
    assert (directory / "many" / "export" / "config.json").is_file()


def test_a_stopped_run_of_several_processes_continues_to_the_same_bits(tmp_path: Path) -> None:
    straight, stopped = tmp_path / "straight" / "sft", tmp_path / "stopped" / "sft"
    for directory, target in ((straight, train_together), (stopped, stop_and_continue)):
        replying_recipe(directory, STEPS)
        ended = run_launched(target, 2, directory)
        assert [each.code for each in ended] == [0, 0], ended
    for name in ("metrics.jsonl", "export/model.safetensors"):
        assert (straight / "many" / name).read_bytes() == (stopped / "many" / name).read_bytes()


SHAREGPT = ("data.sources.0.split=null", "data.sources.0.reader=preference-sharegpt", "data.validation=20")
"""How pairs in another form than the published ones are read."""


@pytest.mark.processes
@pytest.mark.parametrize(
    ("recipe", "layer", "data", "tokenizer", "words"),
    [
        ("dolly-v2-3b", "tiny", "dolly/dolly-6000.jsonl", "pythia", ()),
        ("tulu-2.5-dpo-13b-uf-mean", "tiny", "preference/dpo_en_sharegpt-300.json", "llama", SHAREGPT),
        ("flan-t5-dolly-xxl", "tiny-t5", "dolly/dolly-6000.jsonl", "t5", ()),
    ],
)
def test_torchrun_trains_a_published_recipe(
    real_data: Callable[[str], Path],
    tmp_path: Path,
    recipe: str,
    layer: str,
    data: str,
    tokenizer: str,
    words: tuple[str, ...],
) -> None:
    shared = [recipe, layer, f"data.sources.0.path={real_data(data)}", f"data.cache={tmp_path}/cache", *STEPS]
    shared += [f"model.tokenizer={real_data('tokenizers/' + tokenizer)}", "train.epochs=null"]
    shared += ["data.sources.0.size=200", *words]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    for name, start in (("one", [sys.executable, "-m"]), ("two", torchrun)):
        command = [*start, "tunesmith", "train", *shared, f"run.directory={tmp_path}/{name}"]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
        subprocess.run(command, check=True, timeout=600, env=environment, cwd=tmp_path)
    for mine, other in zip(records(tmp_path / "two"), records(tmp_path / "one"), strict=True):
        assert_close(mine, other)
