"""Checkpoints that several processes write and read together, and any other number of processes reads."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.model.trees import small_model
from tests.processes import run_cases
from tests.train.run.sharded_checkpoints import CASES, assert_same, emptied, fail, groups_of, replicas, split_model
from tests.train.run.sharded_kills import assert_survives, save_first_steps
from tunesmith.errors import StorageError
from tunesmith.files import sha256
from tunesmith.model.export import save_model
from tunesmith.train.run.checkpoint import newest, read, save
from tunesmith.train.run.checkpoint_files import manifest_text
from tunesmith.train.run.exact_weights import load_exact_weights
from tunesmith.train.run.shards import GroupIndex, file_name
from tunesmith.train.tensors import TYPES, write_tensors


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sharded")


@pytest.fixture(scope="module")
def failures(root: Path) -> dict[int, dict[str, str]]:
    """Number of processes -> case -> why it failed. Three and four processes read what two have saved."""
    few = {name: CASES[name] for name in ("saved", "loaded_by_others")}
    cases = {2: CASES, 3: few, 4: {**few, replicas.__name__: replicas}}
    return {size: run_cases(cases[size], size, root / f"processes-{size}") for size in cases}


@pytest.mark.parametrize("case", [*CASES, replicas.__name__])
def test_checkpoints_of_several_processes(failures: dict[int, dict[str, str]], case: str) -> None:
    for size, found in failures.items():
        assert case not in found, f"{size} processes: {found[case]}"


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.usefixtures("failures")
def test_one_process_loads_what_several_have_saved_with_the_same_bits(root: Path, size: int) -> None:
    found = newest(root / f"of-{size}", fail)
    assert found is not None
    groups = groups_of(None, 3)
    assert_same({group: found.load(group) for group in groups}, groups)
    loaded = emptied(groups)
    for group, tensors in loaded.items():
        found.load_into(group, tensors, "state")
    assert_same(loaded, groups)
    tied = found.load("model")
    assert tied["head.weight"] is tied["layers.2.weight"]


@pytest.mark.usefixtures("failures")
def test_an_export_from_a_sharded_checkpoint_has_the_bytes_of_one_from_a_whole_one(root: Path, tmp_path: Path) -> None:
    save(tmp_path / "whole", 1, split_model(None), {})
    for name, checkpoints in (("one", tmp_path / "whole"), ("two", root / "split")):
        found, model = newest(checkpoints, fail), small_model("llama", seed=1)
        assert found is not None
        load_exact_weights(found, "model", model)
        (tmp_path / name).mkdir()
        save_model(model, tmp_path / name, torch.bfloat16)
    assert torch.equal(model.lm_head.weight, small_model("llama").lm_head.weight), "the weights are exact"
    one, two = ({each.name: sha256(each) for each in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert one == two


def test_a_process_that_is_killed_while_all_save_leaves_whole_checkpoints(tmp_path: Path) -> None:
    """`make ranks` kills every process at every call."""
    save_first_steps(tmp_path / "root", 2)
    for victim, number in ((0, 14), (1, 3)):
        scratch = tmp_path / f"{victim}-{number}"
        scratch.mkdir()
        assert assert_survives(tmp_path / "root", 2, victim, number, scratch), "it was killed"


def test_a_checkpoint_of_one_process_has_the_bytes_of_earlier_versions(tmp_path: Path) -> None:
    weight = torch.nn.Parameter(torch.arange(12.0).reshape(4, 3))
    model = {"a.weight": weight, "tied.weight": weight, "b.bias": torch.full((3,), 2.0)}
    groups = {
        "model": {**model, "half": torch.ones(5, dtype=torch.bfloat16)},
        "optimizer": {"a.weight.step": torch.tensor(7.0)},
    }
    path = save(tmp_path, 7, groups, {"step": 7, "text": "grüße"}, {"recipe": "abc"})
    # The manifest has the digests of all other files.
    assert sha256(path / "MANIFEST.json") == "c66e2236422fec8978f8c00e00d1bc571fd2fdab27c851128b5eb4fbfde80faf"


def write_divided(directory: Path) -> Path:
    """A checkpoint of three processes, written by one: each has some rows, the first has what is whole."""
    directory.mkdir()
    tensors = {"w": torch.arange(21.0).reshape(7, 3), "v": torch.arange(4, dtype=torch.int16), "s": torch.tensor(2.0)}
    parts: list[tuple[dict[str, torch.Tensor], dict[str, int | None]]] = [
        ({"w": tensors["w"][:3], "v": tensors["v"][:2], "s": tensors["s"]}, {"w": 0, "v": 0, "s": None}),
        ({"w": tensors["w"][3:6], "v": tensors["v"][2:]}, {"w": 3, "v": 2}),
        ({"w": tensors["w"][6:]}, {"w": 6}),
    ]
    names = [file_name("model", rank, 3) for rank in range(3)]
    digests = {name: write_tensors(directory / name, part) for name, (part, _) in zip(names, parts, strict=True)}
    known = {name: (TYPES[each.dtype], tuple(each.shape)) for name, each in tensors.items()}
    index = GroupIndex(known, {name: layout for name, (_, layout) in zip(names, parts, strict=True)})
    (directory / "model.index.json").write_bytes(index.text())
    (directory / "state.json").write_text("{}\n")
    about = {"format": 2, "step": 1, "attempt": 1, "facts": {}, "tied": {"model": {"head": "w"}}}
    files = {name: {"size": 0, "sha256": digest} for name, digest in digests.items()}
    files |= {"model.index.json": {}, "state.json": {}}
    seal(directory, {**about, "files": files})
    return directory


def seal(directory: Path, manifest: dict[str, Any]) -> None:
    """Write a manifest with the present sizes and digests of the files that are there, and its own digest."""
    if isinstance(manifest.get("files"), dict):
        for name in manifest["files"]:
            if "/" not in name and (path := directory / name).is_file():
                manifest["files"][name] = {"size": path.stat().st_size, "sha256": sha256(path)}
    (directory / "MANIFEST.json").write_text(manifest_text(manifest))


def reseal(directory: Path) -> None:
    content = json.loads((directory / "MANIFEST.json").read_text())
    seal(directory, {key: value for key, value in content.items() if key != "sha256"})


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 9),
    st.just(0.0),
    st.sampled_from(["F32", "I16", "w", "v", "s", "../state.json", "model-00001-of-00003.safetensors", ""]),
    st.lists(st.integers(0, 7), max_size=3),
    st.dictionaries(st.sampled_from(["w", "v", "s", "head", "dtype"]), st.integers(0, 7) | st.none(), max_size=3),
)


@st.composite
def changed(draw: st.DrawFn, content: Any) -> Any:
    """A JSON value of which one part, anywhere in it, is replaced, removed, copied, or has another name."""
    if not isinstance(content, dict | list) or not content or draw(st.integers(0, 6)) == 0:
        return draw(VALUES)
    if isinstance(content, list):
        place = draw(st.integers(0, len(content) - 1))
        return [draw(changed(each)) if number == place else each for number, each in enumerate(content)]
    key = draw(st.sampled_from(sorted(content)))
    others = {name: value for name, value in content.items() if name != key}
    how = draw(st.integers(0, 7))
    if how == 0:
        return others
    if how == 2:
        return {**content, draw(st.sampled_from(["w", "v", "s", "x"])): content[key]}
    return {**others, draw(st.sampled_from(["w", "v", "s", "x"])) if how == 1 else key: draw(changed(content[key]))}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_divided(tmp_path_factory.mktemp("foreign") / "step-000001")


def read_if_undamaged(path: Path) -> dict[str, torch.Tensor] | None:
    """The tensors of a checkpoint; None if it is found to be damaged. Any other outcome is an error."""
    try:
        found = read(path)
    except StorageError:
        return None
    return {name: tensor for group in found.groups for name, tensor in found.load(group).items()}


FIRST, SECOND, THIRD = (file_name("model", rank, 3) for rank in range(3))
FAULTS: dict[str, tuple[Callable[[Any], object], str]] = {
    "a gap": (lambda index: index["files"][THIRD].update(w=7), "rows of 'w'"),
    "the same rows twice": (lambda index: index["files"][SECOND].update(w=0), "rows of 'w'"),
    "a part as the whole": (lambda index: index["files"][SECOND].update(v=None), "'v' in .* another type or shape"),
    "fewer rows": (lambda index: index["tensors"]["w"].update(shape=[6, 3]), "rows of 'w'"),
    "other columns": (lambda index: index["tensors"]["w"].update(shape=[7, 4]), "'w' in .* another type or shape"),
    "another type": (lambda index: index["tensors"]["s"].update(dtype="I32"), "'s' in .* another type or shape"),
    "a tensor without rows": (lambda index: index["tensors"].update(x=index["tensors"]["w"]), "rows of 'x'"),
    "a lost file": (lambda index: index["files"].pop(THIRD), "-00003-of-00003.* do not belong together"),
    "a file elsewhere": (lambda index: index["files"].update({"../a": {}}), "do not belong together"),
    "a lost name": (lambda index: index["files"][SECOND].pop("v"), "holds other tensors"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_index_that_does_not_agree_with_its_files_is_damage(original: Path, fault: str) -> None:
    file = original / "model.index.json"
    text = file.read_bytes()
    index = json.loads(text)
    change, reason = FAULTS[fault]
    change(index)
    try:
        file.write_bytes(json.dumps(index, indent=1, ensure_ascii=False).encode() + b"\n")
        reseal(original)
        with pytest.raises(StorageError, match=f"damaged: .*{reason}"):
            read(original)
    finally:
        file.write_bytes(text)
        reseal(original)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_change_of_an_index_is_damage(original: Path, data: st.DataObject) -> None:
    expected, file = read(original).load("model"), original / "model.index.json"
    text = file.read_bytes()
    content = json.loads(text)
    other = data.draw(changed(content))
    try:
        file.write_bytes(json.dumps(other, indent=1, ensure_ascii=False).encode() + b"\n")
        reseal(original)
        if (found := read_if_undamaged(original)) is not None:
            assert other == content
            assert_same({"model": found}, {"model": expected})
    finally:
        file.write_bytes(text)
        reseal(original)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_manifest_in_any_other_form_is_read_or_damage(original: Path, data: st.DataObject) -> None:
    file = original / "MANIFEST.json"
    text = file.read_bytes()
    content = {key: value for key, value in json.loads(text).items() if key != "sha256"}
    other = data.draw(changed(content))
    try:
        file.write_text(manifest_text(other) if isinstance(other, dict) else json.dumps(other))
        if read_if_undamaged(original) is not None:
            assert read(original).step == other["step"]
    finally:
        file.write_bytes(text)
