"""What is private in the files of an export is found and stops an upload; built-in recipes hold nothing private."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.publish.card.card_runs import copy_run
from tests.publish.hub.planted import FILES, PLANTED, plant
from tunesmith.errors import DataError
from tunesmith.publish.card.writing import write_card
from tunesmith.publish.hub.command import run
from tunesmith.publish.hub.findings import find_private
from tunesmith.publish.hub.push import Access


def ignore(text: str) -> None:
    pass


@pytest.fixture
def export(dolly_run: Path, tmp_path: Path) -> Path:
    directory = copy_run(dolly_run, tmp_path / "run")
    write_card(directory, ignore)
    return directory / "export"


def test_there_are_fifty_different_texts_of_every_kind_in_every_file() -> None:
    assert len(set(PLANTED)) == len(PLANTED) == 50
    assert {number % len(FILES) for number in range(len(PLANTED))} == set(range(len(FILES)))


def test_each_of_fifty_planted_texts_is_found_alone_in_its_file(export: Path) -> None:
    found = 0
    for number, secret in enumerate(PLANTED):
        path = export / FILES[number % len(FILES)]
        before = path.read_bytes()
        plant(export, number)
        if path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
        (finding, *others) = find_private({path.name: path}, {})
        assert not others, secret
        assert finding.place.startswith(f"{path.name}:")
        seen, wanted = (text.replace("\\", "") for text in (finding.text, secret))
        assert seen in wanted or wanted in seen
        path.write_bytes(before)
        found += 1
    assert found == 50


def test_all_fifty_stop_the_upload_before_anything_is_sent(export: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for number in range(len(PLANTED)):
        plant(export, number)
    with pytest.raises(DataError, match=r"50 texts look private.*--allow TEXT.*nothing was sent"):
        run(export, "hub:me/model", Access(), allowed=(), message="", replace=False, dry_run=False)
    printed = capfd.readouterr().err
    assert "and 30 more" in printed
    assert not any(secret in printed for secret in PLANTED[:31])


def test_no_built_in_recipe_holds_anything_private() -> None:
    files = {path.name: path for path in (REPOSITORY / "tunesmith/recipe/catalog").rglob("*.yaml")}
    assert len(files) > 50
    assert find_private(files, {}) == []
