"""Cards are written again without a change, edits by hand are found, and unfinished runs have none."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.publish.card.card_runs import add_results, copy_run
from tunesmith.errors import DataError, MissingInputError, StorageError, UsageError
from tunesmith.publish.card.data_survey import DataSurvey, read_survey, write_survey
from tunesmith.publish.card.document import HEADER, read_card
from tunesmith.publish.card.metadata import unwritten
from tunesmith.publish.card.reading import read_facts
from tunesmith.publish.card.writing import write_card


@pytest.fixture
def run(dolly_run: Path, tmp_path: Path) -> Path:
    return copy_run(dolly_run, tmp_path / "run")


def ignore(text: str) -> None:
    pass


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_sections_that_are_moved_or_written_twice_are_edits(run: Path) -> None:
    path = write_card(run, ignore)
    text = path.read_text()
    parts = read_card(text, {}).parts
    one, other = parts["model-details"], parts["usage"]
    moved = text.replace(one, "PLACE").replace(other, one).replace("PLACE", other)
    twice = text.replace(one, f"{one} by hand\n\n{one}")
    for edited, name in ((moved, "the order of the sections"), (twice, "model-details")):
        path.write_text(edited)
        with pytest.raises(UsageError, match=f"edited by hand: '{name}"):
            write_card(run, ignore)
        assert path.read_text() == edited
    assert write_card(run, ignore, force=True).read_text() == text


def test_what_is_no_file_is_not_replaced(run: Path) -> None:
    path = run / "export" / "README.md"
    for make in (
        Path.mkdir,
        os.mkfifo,
        lambda place: place.symlink_to("nowhere"),
        lambda place: place.symlink_to(place),
    ):
        path.unlink(missing_ok=True)
        make(path)
        for force in (False, True):
            with pytest.raises(StorageError, match=r"README\.md: this is not a regular file, and it is not replaced"):
                write_card(run, ignore, force=force)
        if path.is_dir():
            path.rmdir()


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 10**400])
def test_a_result_that_is_no_number_is_refused(run: Path, number: float) -> None:
    add_results(run)
    path = next(path for path in run.rglob("*.json") if "differences" in path.read_text())
    content = json.loads(path.read_text())
    task = next(iter(content["models"][0]["tasks"].values()))
    for key in ("score", "low", "high"):
        path.write_text(
            json.dumps({**content, "models": [{**content["models"][0], "tasks": {"t": {**task, key: number}}}]})
        )
        with pytest.raises(DataError, match="this is not what `tunesmith benchmark` of this version writes"):
            write_card(run, ignore)


def test_a_second_card_is_the_same_file(run: Path) -> None:
    add_results(run)
    path = write_card(run, ignore)
    before, changed = path.read_bytes(), path.stat().st_mtime_ns
    assert write_card(run / "export", ignore) == path  # the export of a run means the run
    assert (path.read_bytes(), path.stat().st_mtime_ns) == (before, changed)


def test_every_edit_by_hand_is_named_and_kept(run: Path) -> None:
    add_results(run)
    path = write_card(run, ignore)
    text = path.read_text()
    parts = read_card(text, {}).parts
    assert len(parts) > 9
    for name, part in parts.items():
        path.write_text(text.replace(part, f"{part} by hand", 1))
        with pytest.raises(UsageError, match=f"edited by hand: '{name}'"):
            write_card(run, ignore)
        assert "by hand" in path.read_text()
    for added, name in (
        (f"{text}\nMine.\n", "text at the end"),
        (text.replace("---\n\n", "---\n\nMine.\n\n", 1), "before"),
    ):
        path.write_text(added)
        with pytest.raises(UsageError, match=name):
            write_card(run, ignore)
    write_card(run, ignore, force=True)
    assert path.read_text() == text


def test_an_edited_file_of_results_is_named(run: Path) -> None:
    add_results(run)
    path = write_card(run, ignore)
    change(path.parent / ".eval_results/gsm8k.yaml", "75.0", "99.0")
    with pytest.raises(UsageError, match=r"\.eval_results/gsm8k\.yaml"):
        write_card(run, ignore)


def test_results_that_are_gone_leave_the_card_and_their_file(run: Path) -> None:
    add_results(run)
    path = write_card(run, ignore)
    (run / "benchmark/benchmark.json").unlink()
    write_card(run, ignore)
    assert not (path.parent / ".eval_results/gsm8k.yaml").exists()
    assert "gsm8k" not in path.read_text()


def test_results_of_other_weights_are_left_out_with_a_notice(run: Path) -> None:
    add_results(run)
    change(
        run / "benchmark/benchmark.json", json.loads((run / "report.json").read_text())["args"]["fingerprint"], "e" * 64
    )
    notices: list[str] = []
    path = write_card(run, notices.append)
    assert "benchmark/benchmark.json: it is of other weights than the export, so the card does not use it" in notices
    assert "gsm8k" not in path.read_text()
    assert "model-index" not in path.read_text()


def test_a_card_of_another_program_is_kept(run: Path) -> None:
    path = run / "export/README.md"
    path.write_text("# Mine\n")
    with pytest.raises(UsageError, match="not written by `tunesmith card`"):
        write_card(run, ignore)
    assert path.read_text() == "# Mine\n"
    write_card(run, ignore, force=True)
    assert HEADER in read_card(path.read_text(), {}).parts


def test_line_ends_of_windows_are_no_edit(run: Path) -> None:
    path = write_card(run, ignore)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    write_card(run, ignore)
    assert b"\r" not in path.read_bytes()


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        (
            lambda run: change(run / "status.json", '"finished"', '"stopped"'),
            UsageError,
            "it was stopped at step 2 of 2",
        ),
        (lambda run: change(run / "status.json", '"finished"', '"failed"'), UsageError, "it has failed at step 2 of 2"),
        (lambda run: (run / "export/config.json").unlink(), UsageError, "the run has no export"),
        (lambda run: (run / "recipe.yaml").unlink(), MissingInputError, "this is not the directory of a run"),
    ],
)
def test_a_run_that_is_not_finished_has_no_card(
    run: Path, fault: Callable[[Path], None], error: type[Exception], message: str
) -> None:
    fault(run)
    with pytest.raises(error, match=message):
        write_card(run, ignore)
    assert not (run / "export/README.md").exists()


def test_the_text_of_the_author_survives(run: Path) -> None:
    change(run / "recipe.yaml", "  summary: null", "  summary: It is *mine*.")
    change(run / "recipe.yaml", "  sections: {}", "  sections: {Thanks: To all.}")
    path = write_card(run, ignore)
    change(run / "recipe.yaml", "To all.", "To all of you.")
    write_card(run, ignore)
    assert "It is *mine*." in path.read_text()
    assert "## Thanks\n\nTo all of you." in path.read_text()


def test_a_license_that_drops_a_condition_of_the_data_needs_a_reason(run: Path) -> None:
    notices: list[str] = []
    reason = next(line for line in (run / "recipe.yaml").read_text().splitlines() if "license_reason" in line)
    assert "license: mit" in write_card(run, notices.append).read_text()
    change(run / "recipe.yaml", reason, "  license_reason: null")
    text = write_card(run, notices.append).read_text()
    assert not text.split("\n---\n")[0].startswith("license:")
    assert "license: mit" not in text.split("\n---\n")[0]
    assert any(
        "cc-by-sa-3.0 asks that adaptations have the same license, and card.license is mit" in n for n in notices
    )


def test_data_that_have_changed_are_not_surveyed(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the data are not here, and the hub, which has some of this name, is not asked
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    (run / "data-survey.json").unlink()
    notices: list[str] = []
    assert "language:" not in write_card(run, notices.append).read_text().split("\n---\n")[0]
    assert any("does not name their languages" in notice for notice in notices)


@pytest.mark.parametrize("damage", [lambda text: text.replace("12", "13"), lambda text: text[:20], lambda text: "[1]"])
def test_a_damaged_survey_is_not_used_and_so_measured_again(tmp_path: Path, damage: Callable[[str], str]) -> None:
    survey, path = DataSurvey("digest", records=12, detected={"en": 12}), tmp_path / "data-survey.json"
    write_survey(tmp_path, survey)
    assert read_survey(path) == survey
    path.write_text(damage(path.read_text()))
    assert read_survey(path) is None


def test_a_base_model_of_this_machine_is_left_out_with_a_notice(run: Path) -> None:
    facts = read_facts(run, lambda done, total, label: None)
    notice = "the card names no base model, because model.path is no name of the hub"
    for base, on_hub, expected in (("base", False, True), ("owner/base", True, False), (None, False, False)):
        model = replace(facts.model, base=base, base_on_hub=on_hub)
        assert (notice in unwritten(replace(facts, model=model))) == expected


def test_a_path_that_looks_like_a_name_of_the_hub_is_none(run: Path) -> None:
    assert "datasets:" not in write_card(run, ignore).read_text().split("\n---\n")[0]


def test_a_manifest_of_another_program_is_an_error_of_one_line(run: Path) -> None:
    (run / "manifest.json").write_text('{"data": []}')
    with pytest.raises(DataError, match="this is no manifest of a run; restore the file"):
        write_card(run, ignore)
