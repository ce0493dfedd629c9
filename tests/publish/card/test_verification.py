"""`tunesmith verify` finds changes of the card, of its results and of the survey of the data."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.publish.card.card_runs import add_results, copy_run
from tunesmith.apps.provenance.verify import open_inventory, verify_files
from tunesmith.cli.verify import verify
from tunesmith.errors import StorageError
from tunesmith.publish.card.verification import add_card_files
from tunesmith.publish.card.writing import write_card

CARD, RESULT, SURVEY = "export/README.md", "export/.eval_results/gsm8k.yaml", "data-survey.json"


@pytest.fixture
def run(dolly_run: Path, tmp_path: Path) -> Path:
    directory = copy_run(dolly_run, tmp_path / "run")
    add_results(directory)
    write_card(directory, lambda text: None)
    return directory


def states(directory: Path) -> dict[str, str]:
    """Path of every file of the card with a finding -> its state."""
    found = verify_files(open_inventory(directory, add_card_files))
    return {each.path: each.state for each in found if each.path in (CARD, RESULT, SURVEY, CARD.partition("/")[2])}


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_what_was_written_is_intact_in_a_run_and_in_its_export(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert states(run) == {}
    assert states(run / "export") == {}
    verify(run)
    assert "as they were written" in capsys.readouterr().out


def test_every_change_is_found(run: Path) -> None:
    for name, old, new in (
        (CARD, "optimizer steps", "optimizer step"),
        (RESULT, "75.0", "99.0"),
        (SURVEY, '"en"', '"de"'),
    ):
        text = (run / name).read_text()
        change(run / name, old, new)
        assert states(run) == {name: "damaged"}
        with pytest.raises(StorageError, match="damaged or missing"):
            verify(run)
        (run / name).write_text(text)
    (run / RESULT).unlink()
    assert states(run) == {RESULT: "missing"}


def test_a_card_of_another_model_is_not_covered_and_one_of_another_program_is_extra(run: Path) -> None:
    text = (run / CARD).read_text()
    change(run / "export/tunesmith.json", '"steps": 2', '"steps": 1')
    assert states(run)[CARD] == "not covered"
    (run / CARD).write_text("# Mine\n")
    assert states(run)[CARD] == "extra"
    (run / CARD).write_text(text[: text.rindex("<!--")])
    assert states(run)[CARD] == "damaged"
    change(run / "export/tunesmith-manifest.json", '"version": 1', '"version": 2')
    (run / CARD).write_text(text)
    assert states(run)[CARD] == "not covered"
