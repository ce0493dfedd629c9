"""What is published: every file of a directory, with the hashes of git, and nothing that must not leave."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tunesmith.errors import DataError, MissingInputError, UsageError
from tunesmith.publish.hub.command import run
from tunesmith.publish.hub.contents import find_files, hash_file, is_gated, read_card
from tunesmith.publish.hub.push import Access


def test_hashes_are_those_of_git_and_sha256sum(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(b'{"model_type": "llama"}\n' * 1000)
    found = hash_file("config.json", path)
    git = subprocess.run(["git", "hash-object", path], capture_output=True, text=True, check=True)
    total = subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True)
    assert (found.blob, found.sha256) == (git.stdout.strip(), total.stdout.split()[0])


def test_files_of_sub_directories_are_published(tmp_path: Path) -> None:
    for name in ("README.md", "adapter/adapter_config.json", ".eval_results/gsm8k.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    assert list(find_files(tmp_path)) == [".eval_results/gsm8k.yaml", "README.md", "adapter/adapter_config.json"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (".env", "hidden"),
        (".git/config", "hidden"),
        (".unfinished-0123", "hidden"),
        ("adapter/.cache", "hidden"),
        ("pytorch_model.bin", "pickle"),
        ("training/optimizer.pt", "pickle"),
        ("STATE.PKL", "pickle"),
        ("scaler.joblib", "pickle"),
    ],
)
def test_a_file_that_is_no_part_of_a_model_is_refused(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("x")
    with pytest.raises(DataError, match=reason):
        find_files(tmp_path)


def test_a_link_out_of_the_directory_is_refused_and_one_inside_is_followed(tmp_path: Path) -> None:
    inside, outside = tmp_path / "export", tmp_path / "outside.txt"
    inside.mkdir()
    outside.write_text("x")
    (inside / "a.txt").write_text("x")
    (inside / "b.txt").symlink_to(inside / "a.txt")
    assert list(find_files(inside)) == ["a.txt", "b.txt"]
    (inside / "c.txt").symlink_to(outside)
    with pytest.raises(DataError, match="this link leaves the directory"):
        find_files(inside)


CARD = "---\nlicense: mit\nextra_gated_prompt: Do you agree?\n---\n# Model\n"


@pytest.mark.parametrize(
    ("card", "reason"),
    [
        ("# Model\n", "names no license"),
        ("---\nlicense:\n---\n", "names no license"),
        ("---\nlicense: bogus-9\n---\n", "does not know: 'bogus-9'"),
        ("---\nlicense: [1, 2]\n---\n", "does not know: "),
        ("---\nlicense: [\n---\n", "front matter is not valid"),
        ("---\n- license\n---\n", "front matter is not valid"),
        (CARD + "[More Information Needed]", "More Information Needed"),
    ],
)
def test_a_card_that_is_not_finished_is_refused(tmp_path: Path, card: str, reason: str) -> None:
    (tmp_path / "README.md").write_text(card)
    with pytest.raises(DataError, match=reason):
        read_card(tmp_path)


def test_conditions_of_a_card_are_seen(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="tunesmith card"):
        read_card(tmp_path)
    (tmp_path / "README.md").write_text(CARD)
    assert is_gated(read_card(tmp_path))
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")
    assert not is_gated(read_card(tmp_path))


def test_a_link_to_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").symlink_to("a.txt")
    with pytest.raises(DataError, match="not a regular file"):
        find_files(tmp_path)


@pytest.mark.parametrize("name", [b"a\nb.txt", b"\xff.txt", "\u202e.txt".encode(), b"\x1b[31m.txt"])
def test_a_name_that_cannot_be_shown_is_refused(tmp_path: Path, name: bytes) -> None:
    with open(os.path.join(os.fsencode(tmp_path), name), "w"):  # noqa: PTH118, PTH123  # bytes are no Path
        pass
    with pytest.raises(DataError, match="cannot be shown") as caught:
        find_files(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["../x", "a/..", "a b/c", "/b", "a/", "a/b/c", "", "a/b.git", "-a/b", "a/b?x", "a/b\x1b"]
)
def test_a_name_that_the_hub_does_not_take_is_refused_before_anything_is_read(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="is no name of the hub"):
        run(tmp_path, f"hub:{name}", Access(), allowed=(), message="", replace=False, dry_run=True)
