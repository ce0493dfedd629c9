"""The document of the campaigns says what was run, what held, and what was not run."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.campaigns import trust
from tests.campaigns.trust import CAMPAIGNS, Campaign, Result, read_results, run_campaign, write_document


def test_every_campaign_is_a_module() -> None:
    names = [campaign.name for campaign in CAMPAIGNS]
    assert len(names) == len(set(names))
    assert all(Path(trust.__file__).with_name(f"{name}.py").is_file() for name in names)


@pytest.mark.parametrize(("word", "held", "figure"), [("--help", True, "--document DOCUMENT"), ("--what", False, "")])
def test_the_last_line_is_the_figure(
    word: str, held: bool, figure: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    result = run_campaign(Campaign("It is killed.", ("trust", word)), tmp_path)
    assert (result.held, result.figure) == (held, figure)
    shown = capfd.readouterr().out.splitlines()
    assert "It is killed." in shown[0]
    assert all(line.startswith("trust: ") for line in shown)


def test_what_did_not_hold_or_was_not_run_is_said(tmp_path: Path) -> None:
    campaigns = [Campaign(f"{name} is tested.", (name, "--results", "{results}/x")) for name in ("a", "b", "c")]
    found = {
        "a": Result("3/3 ended right", True, 1.25, "2026-11-30", "abc", "f"),
        "b": Result("2/3", False, 0.5, "2026-11-30", "abc", "f"),
    }
    write_document(tmp_path / "trust.md", campaigns, found)
    rows = (tmp_path / "trust.md").read_text().splitlines()[-3:]
    assert rows[0] == (
        "| a is tested. | 3/3 ended right | `python -m tests.campaigns.a --results trust/x` | 2026-11-30 | abc | 1.2 |"
    )
    assert "| **did not hold**: 2/3 |" in rows[1]
    assert "| not run |" in rows[2]


def test_the_commit_has_a_mark_where_the_package_is_changed_and_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "tunesmith"
    package.mkdir()
    for path in (package / "a.py", tmp_path / "notes"):
        path.write_text("one\n")
    names = ("-c", "user.name=a", "-c", "user.email=a@b")
    for words in (("init", "-q"), ("add", "."), (*names, "commit", "-q", "-m", "one")):
        subprocess.run(["git", *words], cwd=tmp_path, check=True, capture_output=True)
    monkeypatch.setattr(trust, "PACKAGE", package)
    commit = trust.find_commit()
    assert len(commit) >= 7
    (tmp_path / "notes").write_text("two\n")  # as the campaigns write their document
    assert trust.find_commit() == commit
    (package / "a.py").write_text("two\n")
    assert trust.find_commit() == f"{commit}+"


def test_a_result_is_kept(tmp_path: Path) -> None:
    result = Result("1/1", True, 0.1, "2026-11-30", "abc", "f")
    (tmp_path / "a.json").write_text(json.dumps(asdict(result)))
    assert read_results(tmp_path) == {"a": result}


def test_campaigns_run_at_once_and_only_what_is_missing_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran, together = list[str](), threading.Barrier(2, timeout=20)

    def run(campaign: Campaign, results: Path) -> Result:
        ran.append(campaign.name)
        together.wait()  # for the other one
        return Result("1/1", campaign.name != "c", 0.1, "2026-11-30", "abc", trust.digest_code())

    monkeypatch.setattr(trust, "CAMPAIGNS", [Campaign(f"{name} is tested.", (name,)) for name in ("a", "b", "c")])
    monkeypatch.setattr(trust, "run_campaign", run)
    monkeypatch.setattr(sys, "argv", ["trust", "--results", str(tmp_path), "--document", str(tmp_path / "trust.md")])
    (tmp_path / "a.json").write_text(json.dumps(asdict(Result("1/1", True, 0.1, "", "", trust.digest_code()))))
    with pytest.raises(SystemExit, match=r"did not hold: c$"):
        trust.main()
    assert sorted(ran) == ["b", "c"]
    assert set(read_results(tmp_path)) == {"a", "b", "c"}
    assert (tmp_path / "trust.md").read_text().count("1/1") == 3
