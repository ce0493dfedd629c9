"""Secrets and private details in a directory are found, with file and line; ordinary files have none."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from tests.publish.hub.planted import MIXED, SECRETS, made_up
from tunesmith.errors import DataError
from tunesmith.publish.hub.findings import OVERLAP, PATTERNS, PIECE, find_private, private_names

HARMLESS = [
    "See https://example.com/a?b=c and mail someone@example.com.",
    "sk-learn and task-specific-heads-for-language-models are words",
    '"model_type": "gpt_neox", "rope_theta": 10000.0, "vocab_size": 50432',
    "sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "train.learning_rate=2e-5 on 8 GPUs of 10.0 GB, version 192.168",
    "the password is a secret: never tell it; api_key: YOUR_KEY; password = None",
    "/usr/share/dict and the /home page, ~/models",
    "uuid 123e4567-e89b-12d3-a456-426614174000, ratio 16:9, time 12:30:45",
    "AC/DC, SKILL, key-value, key-1, AKIA is a prefix",
    "base_model: EleutherAI/pythia-2.8b",
]


def scan(directory: Path, text: str, **options: object) -> list[tuple[str, str, str]]:
    (directory / "README.md").write_text(text, encoding="utf-8", newline="")
    found = find_private({"README.md": directory / "README.md"}, {}, **options)  # type: ignore[arg-type]
    return [(each.place, each.kind, each.text) for each in found]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("around", ["{}", "value: {}\n", '{{"key": "{}"}}', "see {}, then", "<{}>", "x={}\r\n"])
def test_a_secret_is_found_with_its_line(tmp_path: Path, secret: str, around: str) -> None:
    found = scan(tmp_path, "first\nsecond\n" + around.format(secret))
    assert found, "not found"
    assert {place for place, _, _ in found} == {"README.md:3"}
    assert any(text in secret or secret in text for _, _, text in found)


def test_every_kind_has_a_planted_secret(tmp_path: Path) -> None:
    assert {kind for secret in SECRETS for _, kind, _ in scan(tmp_path, secret)} == set(PATTERNS)


@pytest.mark.parametrize("text", HARMLESS)
def test_ordinary_text_is_not_taken_for_a_secret(tmp_path: Path, text: str) -> None:
    assert scan(tmp_path, text) == []


@settings(deadline=None)
@given(place=st.integers(PIECE - 200, PIECE + 200), secret=st.sampled_from(SECRETS), lines=st.integers(1, 9))
def test_a_secret_across_pieces_of_a_large_file_is_found_once(
    tmp_path_factory: pytest.TempPathFactory, place: int, secret: str, lines: int
) -> None:
    assert len(secret) < OVERLAP
    lead = ("x" * 99 + "\n") * lines
    text = lead + "y" * (place - len(lead) - 1) + " " + secret + " " + "z" * PIECE
    found = scan(tmp_path_factory.mktemp("large"), text)
    assert {where for where, _, _ in found} == {f"README.md:{lines + 1}"}
    assert len(found) == len(scan(tmp_path_factory.mktemp("alone"), f" {secret} "))


def test_an_allowed_text_is_left_out_and_only_this(tmp_path: Path) -> None:
    text = "write to jane@company.com or joe@company.com"
    assert [each[2] for each in scan(tmp_path, text, allowed=["jane@company.com"])] == ["joe@company.com"]


def test_names_and_variables_of_this_machine_are_found_and_not_repeated_in_full(tmp_path: Path) -> None:
    environment = {
        "HOME": "/srv/people/jane",
        "MY_TOKEN": "made-up-value",
        "OTHER": "harmless-value",
        "A_KEY": "12345678",
    }
    names = private_names("trainer-box-3", environment)
    (tmp_path / "a.json").write_text(
        "trainer-box-3 /srv/people/jane/x made-up-value harmless-value 12345678", encoding="utf-8"
    )
    found = find_private({"a.json": tmp_path / "a.json"}, names)
    assert [each.kind for each in found] == ["name of this machine", "home directory", "value of the variable MY_TOKEN"]
    assert [each.shown for each in found] == ["trainer-box-3", "/srv/people/jane", "made-u..."]


@pytest.mark.parametrize("family", ["pythia", "llama", "t5"])
def test_vocabularies_of_real_tokenizers_hold_nothing_private(real_data: Callable[[str], Path], family: str) -> None:
    path = real_data(f"tokenizers/{family}/tokenizer.json")
    assert find_private({path.name: path}, {}) == []


KEY = SECRETS[0]


@pytest.mark.parametrize("code", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("place", [0, PIECE // 4 - 20, PIECE // 2 - 20])
def test_a_secret_in_another_encoding_is_found(tmp_path: Path, code: str, place: int) -> None:
    (tmp_path / "a.txt").write_bytes(("x" * place + f" {KEY} " + "y" * PIECE).encode(code))
    assert [each.text for each in find_private({"a.txt": tmp_path / "a.txt"}, {})] == [KEY]


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_a_secret_in_a_compressed_file_is_found(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    (tmp_path / "a.bin").write_bytes(compress(f"first\n{KEY}\n".encode()))
    assert [each.place for each in find_private({"a.bin": tmp_path / "a.bin"}, {})] == ["a.bin:2"]


def test_a_compressed_file_that_is_damaged_is_refused(tmp_path: Path) -> None:
    for number, content in enumerate(
        (gzip.compress(b"text" * 99)[:-9], lzma.compress(b"text")[:-3], bz2.compress(b"text")[:-3])
    ):
        path = tmp_path / f"{number}.txt"
        path.write_bytes(content)
        with pytest.raises(DataError, match="cannot be searched"):
            find_private({path.name: path}, {})


def test_a_secret_in_the_metadata_of_weights_is_found(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(9)}, path, metadata={"made in": "/home/jdoe/base"})
    assert [each.kind for each in find_private({path.name: path}, {})] == ["home directory"]


def test_a_secret_in_the_name_of_a_file_is_found(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("x")
    found = find_private({f"{KEY}.txt": tmp_path / "x", "for/jane@company.com": tmp_path / "x"}, {})
    assert [each.text for each in found] == [KEY, "jane@company.com"]


@pytest.mark.parametrize("length", [3000, 3 * OVERLAP])
def test_a_long_secret_across_pieces_is_found(tmp_path: Path, length: int) -> None:
    token = "eyJ" + made_up(MIXED, length) + ".eyJ" + made_up(MIXED, 80) + "." + made_up(MIXED, 43)
    key = "hf" + "_" + made_up(MIXED, length)
    for secret in (token, key) if length < OVERLAP else (key,):
        found = scan(tmp_path, "y" * (PIECE - length // 2) + f" {secret} " + "z" * PIECE)
        assert len(found) == 1, found
        assert secret.startswith(found[0][2])
