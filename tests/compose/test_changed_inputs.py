"""A stopped run does not continue with other code, or with other weights behind the same name, in silence."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from tests.worlds import preference_recipe, small_recipe, write_world
from tunesmith.compose import manifest as manifest_module
from tunesmith.compose import train_recipe
from tunesmith.errors import RecipeError, StoppedError
from tunesmith.model import directory
from tunesmith.model.load import new_model

KEYS = ["train.steps=4", "train.save_every=2", "train.evaluate_every=null", "data.validation=0"]
COMMITS = ("a" * 40, "b" * 40, "c" * 40)
NAME = "someone/base"


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


class LocalHub:
    """A cache of the hub with one repository, whose branch main can be moved."""

    def __init__(self, root: Path, tokenizer: Path) -> None:
        self.repository = root / "models--someone--base"
        for number, commit in enumerate(COMMITS):
            snapshot = self.repository / "snapshots" / commit
            shutil.copytree(tokenizer, snapshot)
            sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64}
            # The second commit has the weights of the first, as after a change of the model card.
            model = new_model({"architecture": "llama", **sizes}, 432, seed=max(number, 1))
            model.save_pretrained(snapshot)
            self._link_blobs(snapshot)

    def _link_blobs(self, snapshot: Path) -> None:
        blobs = self.repository / "blobs"
        blobs.mkdir(exist_ok=True)
        for path in snapshot.iterdir():
            blob = blobs / f"{snapshot.name[0]}-{path.name}"
            path.rename(blob)
            path.symlink_to(os.path.relpath(blob, snapshot))

    def move_main(self, commit: str) -> None:
        reference = self.repository / "refs" / "main"
        reference.parent.mkdir(exist_ok=True)
        reference.write_text(commit)
        directory._snapshot.cache_clear()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    write_world(tmp_path)
    found = LocalHub(tmp_path / "hub", tmp_path / "tokenizer")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found.move_main(COMMITS[0])
    yield found
    directory._snapshot.cache_clear()


HUB_MODEL = [*KEYS, "model.init=null", f"model.path={NAME}", "model.tokenizer=null"]


def test_a_hub_name_that_means_other_weights_is_refused_and_its_revision_continues_the_run(
    tmp_path: Path, hub: LocalHub
) -> None:
    with pytest.raises(StoppedError):
        train_recipe(small_recipe(tmp_path, [*HUB_MODEL, "train.stop_after=2"]))
    recorded = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert recorded["hub"] == {NAME: COMMITS[0]}
    hub.move_main(COMMITS[2])
    with pytest.raises(RecipeError, match=r"model\.files\.model\.safetensors: .* -> ") as error:
        train_recipe(small_recipe(tmp_path, HUB_MODEL))
    assert error.value.exit_code == 78
    assert "set model.revision to the commit" in str(error.value)
    train_recipe(small_recipe(tmp_path, [*HUB_MODEL, f"model.revision={COMMITS[0]}"]))


def test_a_hub_name_with_a_new_commit_and_the_same_weights_continues(
    tmp_path: Path, hub: LocalHub, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(StoppedError):
        train_recipe(small_recipe(tmp_path, [*HUB_MODEL, "train.stop_after=2"]))
    hub.move_main(COMMITS[1])
    train_recipe(small_recipe(tmp_path, HUB_MODEL))
    assert f"changed since the last start of the run: hub.{NAME}" in capfd.readouterr().err


def test_a_reference_on_the_hub_that_moves_is_refused(tmp_path: Path, hub: LocalHub) -> None:
    preference_recipe(tmp_path / "dpo")
    keys = [*KEYS, f"objective={{kind: dpo, reference: {NAME}}}", "model.resize=none"]
    with pytest.raises(StoppedError):
        train_recipe(preference_recipe(tmp_path / "dpo", [*keys, "train.stop_after=2"]))
    hub.move_main(COMMITS[2])
    with pytest.raises(RecipeError, match=r"auxiliary\.reference\.files\.model\.safetensors"):
        train_recipe(preference_recipe(tmp_path / "dpo", keys))


def test_weights_that_an_index_names_are_those_that_the_manifest_holds(tmp_path: Path) -> None:
    write_world(tmp_path)
    model = new_model(
        {"architecture": "llama", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}, 320, 0
    )
    model.save_pretrained(tmp_path / "base", max_shard_size="100KB")
    (tmp_path / "base" / "decoy.safetensors").write_bytes(b"")
    found = directory.read_directory(tmp_path / "base").identity()["files"]
    assert "decoy.safetensors" not in found
    assert {"config.json", "model.safetensors.index.json"} < found.keys()
    assert sum(name.startswith("model-") for name in found) > 1


def test_other_code_is_refused_unless_the_recipe_allows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(StoppedError):
        train_recipe(small_recipe(tmp_path, [*KEYS, "train.stop_after=2"]))
    monkeypatch.setattr(manifest_module, "code_digest", lambda: "f" * 64)
    with pytest.raises(
        RecipeError, match=r"the code of Tunesmith has changed: .* run\.allow_code_change=true"
    ) as error:
        train_recipe(small_recipe(tmp_path, KEYS))
    assert error.value.exit_code == 78
    train_recipe(small_recipe(tmp_path, [*KEYS, "run.allow_code_change=true"]))
    assert "changed since the last start of the run: code" in capfd.readouterr().err


def test_the_digest_of_the_code_is_that_of_what_a_run_uses(tmp_path: Path) -> None:
    for name in ("train/loop.py", "cli/main.py"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("x = 1\n")
    digest = manifest_module.code_digest.__wrapped__
    before = digest(tmp_path)
    (tmp_path / "cli" / "main.py").write_text("x = 2\n")
    assert digest(tmp_path) == before
    (tmp_path / "train" / "loop.py").write_text("x = 2\n")
    assert digest(tmp_path) != before
    assert len(manifest_module.code_digest()) == 64


def test_a_finished_run_that_is_started_again_writes_nothing_and_mends_a_damaged_export(tmp_path: Path) -> None:
    export = train_recipe(small_recipe(tmp_path, KEYS)).export
    (export / "README.md").write_text("mine")
    before = {path.name: (path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes()) for path in export.iterdir()}
    train_recipe(small_recipe(tmp_path, KEYS))
    assert before == {
        path.name: (path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes()) for path in export.iterdir()
    }
    (export / "model.safetensors").write_bytes(b"")
    train_recipe(small_recipe(tmp_path, KEYS))
    assert {path.name: path.read_bytes() for path in export.iterdir()} == {name: all[2] for name, all in before.items()}
