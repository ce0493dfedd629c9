"""Hub names and saved datasets: read through the package ``datasets`` and what it writes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY
from tunesmith.data.sources import source as sources
from tunesmith.data.sources.hub import hub_digest
from tunesmith.data.sources.source import open_source, read_rows, rows
from tunesmith.errors import DataError, MissingInputError


class Rows(list[Any]):
    """What is used of a data set of the hub."""

    cache_files: list[dict[str, str]] = []  # noqa: RUF012 - as the package has it


@pytest.mark.parametrize(
    "path", ["./owner/name", "/owner/name", "~/name", "owner/name.jsonl", "a/b/c", "../x", "name.json.gz", "a b"]
)
def test_what_looks_like_a_path_is_never_looked_up(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "inner")
    monkeypatch.setattr(sources, "load_hub_rows", lambda *given: pytest.fail("looked up"))
    with pytest.raises(MissingInputError, match="does not exist"):
        open_source(path)


def test_rows_of_a_hub_name_are_checked_and_know_their_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "load_hub_rows", lambda *given: Rows([{"a": "b"}, {"a": "c\0"}, {"a": "d"}]))
    first, second, third = read_rows(open_source("owner/name", "train"))
    assert not isinstance(first, DataError)
    assert (first.place, first.value) == ("owner/name[train]:row 1", {"a": "b"})
    assert isinstance(second, DataError)
    assert second.where == "owner/name[train]:row 2"
    assert not isinstance(third, DataError)
    assert third.share == 1


def test_a_hub_name_without_rows_is_missing_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "load_hub_rows", lambda *given: Rows())
    with pytest.raises(MissingInputError, match="has no records"):
        list(rows("owner/name"))


def test_the_digest_is_that_of_the_files_or_of_the_rows(tmp_path: Path) -> None:
    held = Rows([{"a": "b"}])
    other = Rows([{"a": "c"}])
    assert hub_digest(held) == hub_digest(Rows(held)) != hub_digest(other)
    for name, content in (("one", b"1"), ("two", b"1"), ("three", b"3")):
        (tmp_path / name).write_bytes(content)
    digests = []
    for name in ("one", "two", "three"):
        found = Rows([{"a": "b"}])
        found.cache_files = [{"filename": str(tmp_path / name)}]
        digests.append(hub_digest(found))
    assert digests[0] == digests[1] != digests[2]


SCRIPT = """
import json, sys
from tunesmith.data.sources.hub import hub_digest, hub_records, load_hub_rows
from tunesmith.errors import TunesmithError
directory = sys.argv[1]
found = load_hub_rows(directory, "train")
print(json.dumps([record.value for record in hub_records(found)]))
print(hub_digest(found) == hub_digest(load_hub_rows(directory, "train")) and len(found.cache_files) > 0)
for name, split in ((directory, None), (directory, "nothing"), ("nobody-at-all/nothing-here", "train")):
    try:
        load_hub_rows(name, split)
    except TunesmithError as error:
        print(error.exit_code, error)
"""


def test_the_real_package_is_used_rightly(tmp_path: Path) -> None:
    directory = tmp_path / "set"
    directory.mkdir()
    records = [
        {"instruction": "a", "context": None, "response": "2023-01-01"},
        {"instruction": "ü", "context": "", "response": "d"},
    ]
    for name in ("train.jsonl", "test.jsonl"):
        (directory / name).write_text("".join(json.dumps(record) + "\n" for record in records))
    environment = {
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_OFFLINE": "1",
        "PATH": "",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    }
    command = [sys.executable, "-c", SCRIPT, str(directory)]
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    lines = done.stdout.splitlines()
    assert json.loads(lines[0]) == records
    assert lines[1] == "True"
    assert lines[2].startswith("78 ")
    assert "has the splits train, test; set split to train" in lines[2]
    assert lines[3].startswith("78 ")
    assert "has no such split; it has test, train; set split to t" in lines[3] or "it has train, test" in lines[3]
    assert lines[4] == (
        "66 nobody-at-all/nothing-here: there is no file or directory of this name, and the Hugging Face hub cannot be "
        "reached; check the name and the network; a file needs its suffix, such as .jsonl"
    )
    assert len(lines) == 5
