"""The store: what was put in comes out, and what is damaged is not opened."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.data.dataset import store as store_module
from tunesmith.data.dataset.store import (
    LAYOUT,
    Store,
    exclusive_lock,
    open_store,
    open_writer,
    overlap,
    pack,
    read_index,
)
from tunesmith.errors import StorageError
from tunesmith.files import fingerprint, sha256
from tunesmith.text.tokens.token_tree import TokenTree


def token_tree(length: int, seed: int = 0) -> TokenTree:
    """Any numbers of the right shapes; the store does not look at their meaning."""
    random = np.random.default_rng(seed)
    spans = np.array([[1, length, 0, 0, 1]], np.int32)[: min(1, length - 1)].reshape(-1, 5)
    return TokenTree(
        random.integers(0, 2**31 - 1, length, dtype=np.int32),
        np.array([[0, length, -1]], np.int32),
        spans,
        1 + seed,
        seed,
        random.integers(0, 9, (len(spans), 3), dtype=np.int32),
        random.random(len(spans), dtype=np.float32),
    )


def key(number: int) -> bytes:
    return number.to_bytes(16, "big")


TREES = [token_tree(length, seed) for seed, length in enumerate((5, 1, 300, 7))]


def write(directory: Path, trees: list[TokenTree], parts: int = 2) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    with open_writer(directory) as writer:
        for start in range(0, len(trees), parts):
            chosen = trees[start : start + parts]
            numbers = range(start, start + len(chosen))
            writer.append(pack(chosen, [number % 2 for number in numbers], [key(number) for number in numbers]))
        writer.finish("made from", ["one", "two"], {"note": "kept"})
    return directory


def opened(directory: Path) -> Store:
    index = read_index(directory, "made from")
    assert index is not None
    return open_store(directory, index)


def same(one: TokenTree, other: TokenTree) -> bool:
    arrays = all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("ids", "segments", "spans"))
    return arrays and (one.threads, one.cut) == (other.threads, other.cut)


def test_what_was_put_in_comes_out(tmp_path: Path) -> None:
    store = opened(write(tmp_path / "s", TREES))
    assert len(store) == len(TREES)
    assert all(same(store.tree(index), tree) for index, tree in enumerate(TREES))
    assert store.tokens.tolist() == [5, 1, 300, 7]
    assert store.targets.tolist() == [4, 0, 299, 6]
    assert store.threads.tolist() == [1, 2, 3, 4]
    assert store.source.tolist() == [0, 1, 0, 1]
    assert store.sources == ("one", "two")
    assert [store.key(index) for index in range(4)] == [key(index).hex() for index in range(4)]
    assert read_index(tmp_path / "s", "made from")["report"] == {"note": "kept"}  # type: ignore[index]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 99)), max_size=12), st.integers(1, 5))
def test_any_trees_come_out_however_they_are_packed(
    tmp_path_factory: pytest.TempPathFactory, shapes: list[tuple[int, int]], parts: int
) -> None:
    trees = [token_tree(length, seed) for length, seed in shapes]
    store = opened(write(tmp_path_factory.mktemp("s"), trees, parts))
    assert len(store) == len(trees)
    assert all(same(store.tree(index), tree) for index, tree in enumerate(trees))


def test_the_bytes_do_not_depend_on_the_parts(tmp_path: Path) -> None:
    one, other = write(tmp_path / "a", TREES, 1), write(tmp_path / "b", TREES, 4)
    assert {file.name: file.read_bytes() for file in one.iterdir()} == {
        file.name: file.read_bytes() for file in other.iterdir()
    }


def test_arrays_are_views_that_cannot_be_written(tmp_path: Path) -> None:
    tree = opened(write(tmp_path / "s", TREES)).tree(0)
    for array in (tree.ids, tree.segments, tree.spans):
        assert array.dtype == np.int32
        assert array.base is not None
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


@pytest.mark.parametrize("index", [-1, 4])
def test_there_is_no_record_outside_the_store(index: int, tmp_path: Path) -> None:
    with pytest.raises(IndexError):
        opened(write(tmp_path / "s", TREES)).tree(index)


def test_a_part_has_the_chosen_records(tmp_path: Path) -> None:
    store = opened(write(tmp_path / "s", TREES))
    part = store.subset(np.array([False, True, False, True]))
    assert len(part) == 2
    assert same(part.tree(1), TREES[3])
    assert part.key(1) == store.key(3)
    assert part.tokens.tolist() == [1, 7]
    assert same(part.subset(np.array([False, True])).tree(0), TREES[3])
    assert overlap(store, part) == 2
    assert overlap(part, store) == 2
    assert overlap(part, store.subset(np.array([True, False, True, False]))) == 0


@pytest.mark.parametrize("chosen", [(), (0,), (1, 2), (3,), (0, 1, 2, 3)])
def test_a_part_of_a_chunk_has_the_chosen_trees_whole(chosen: tuple[int, ...]) -> None:
    sources, keys = [0, 1, 0, 1], [key(number) for number in range(4)]
    kept = np.isin(np.arange(4), chosen)
    part = pack(TREES, sources, keys).subset(kept)
    expected = pack(*([list(column)[index] for index in chosen] for column in (TREES, sources, keys)))
    assert part.records == len(chosen)
    for name in LAYOUT:
        assert np.array_equal(part.arrays[name], expected.arrays[name])


def test_waiting_for_another_process_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "LOCK_NOTICE", 0.1)
    told = []

    def waiting() -> None:
        told.append("waiting")
        raise KeyboardInterrupt

    with exclusive_lock(tmp_path), pytest.raises(KeyboardInterrupt), exclusive_lock(tmp_path, waiting):
        told.append("inside")
    assert told == ["waiting"]
    with exclusive_lock(tmp_path, waiting):
        told.append("inside")
    assert told == ["waiting", "inside"]


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def crop_threads(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 1)


def lengthen(file: Path) -> None:
    with file.open("ab") as stream:
        stream.write(b"\0")


FILES = [*(f"{name}.bin" for name in LAYOUT), "index.json"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", [flip, crop_threads, lengthen, Path.unlink])
def test_a_damaged_store_is_not_opened(name: str, damage: Callable[[Path], None], tmp_path: Path) -> None:
    directory = write(tmp_path / "s", TREES)
    assert read_index(directory, "made from") is not None
    damage(directory / name)
    whole = name == "index.json" and damage in (lengthen, crop_threads) and _is_json(directory / name)
    assert (read_index(directory, "made from") is None) != whole


def _is_json(file: Path) -> bool:
    """A line end more or less leaves the index what it was."""
    try:
        json.loads(file.read_bytes())
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("content", ["", "[]", "null", "{}", '{"seal": 1}', '"seal"', "\xff", "[" * 10_000])
def test_an_index_may_hold_anything(content: str, tmp_path: Path) -> None:
    directory = write(tmp_path / "s", TREES)
    (directory / "index.json").write_text(content, encoding="latin-1")
    assert read_index(directory, "made from") is None


def test_a_changed_index_is_not_believed(tmp_path: Path) -> None:
    directory = write(tmp_path / "s", TREES)
    index = json.loads((directory / "index.json").read_text())
    (directory / "index.json").write_text(json.dumps({**index, "records": 3}))
    assert read_index(directory, "made from") is None


def test_another_sealed_file_is_no_index(tmp_path: Path) -> None:
    directory = write(tmp_path / "s", TREES)
    (directory / "index.json").write_text(json.dumps({"files": {}, "seal": fingerprint({"files": {}})}))
    assert read_index(directory, "made from") is None


def test_a_store_made_from_something_else_is_not_opened(tmp_path: Path) -> None:
    assert read_index(write(tmp_path / "s", TREES), "made from other data") is None
    assert read_index(tmp_path / "nothing", "made from") is None


@pytest.mark.parametrize("place", [0, 1 << 20, -1])
def test_a_flipped_bit_of_a_store_above_64_mib_is_seen(place: int, tmp_path: Path) -> None:
    directory = write(tmp_path / "s", TREES)
    ids = directory / "ids.bin"
    with ids.open("r+b") as file:
        file.truncate(65 << 20)  # a file with holes, which takes no space
    index = json.loads((directory / "index.json").read_text())
    index.pop("seal")
    index["files"]["ids"] = {"bytes": ids.stat().st_size, "sha256": sha256(ids)}
    (directory / "index.json").write_text(json.dumps({**index, "seal": fingerprint(index)}))
    assert read_index(directory, "made from") is not None
    with ids.open("r+b") as file:
        file.seek(place, os.SEEK_END if place < 0 else os.SEEK_SET)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))
    assert read_index(directory, "made from") is None


def refuse(number: int) -> Callable[..., None]:
    """A call that the operating system refuses with an error number."""

    def call(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return call


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_cache_on_a_file_system_without_locks_is_named(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", refuse(number))
    with pytest.raises(StorageError, match=r"lock: cannot lock: .*; choose a data\.cache"), exclusive_lock(tmp_path):
        pytest.fail("it is not locked")


def test_a_lock_that_is_a_link_is_refused_and_the_file_behind_it_kept(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("years of work")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "lock").symlink_to(tmp_path / "precious")
    with pytest.raises(StorageError, match="move away"), exclusive_lock(tmp_path / "cache"):
        pytest.fail("it is not locked")
    assert (tmp_path / "precious").read_text() == "years of work"


@pytest.mark.parametrize("call", ["open", "stat", "read_bytes"])
def test_a_store_that_cannot_be_read_is_a_storage_error(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = write(tmp_path / "s", TREES)
    monkeypatch.setattr(Path, call, refuse(errno.EIO))
    with pytest.raises(StorageError, match="cannot read: Input/output error; check the disk"):
        read_index(directory, "made from")


def test_closing_the_files_of_a_store_hides_no_other_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module.StoreWriter, "close", refuse(errno.ENOSPC))
    with pytest.raises(ZeroDivisionError), open_writer(tmp_path):
        raise ZeroDivisionError
    with pytest.raises(StorageError, match="No space left"), open_writer(tmp_path):
        pass
