"""`sample` on the command line: its arguments reach the function, and mistakes are one line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.apps.sampled_models import write_causal
from tunesmith.cli import main as command_line
from tunesmith.cli import sample as sample_command


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("p.txt").write_text("One?\nTwo?\n")
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> object:
    monkeypatch.setattr(sys, "argv", ["tunesmith", *map(str, words)])
    with pytest.raises(SystemExit) as caught:
        command_line.main()
    return caught.value.code


def test_a_report_that_other_commands_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], directory: Path
) -> None:
    write_causal(directory / "m")
    words = ["--sampling", "noprefix:k50", "--sampling", "inference_server:k50-Precise", "--samples", 3]
    words += ["--limit", 1, "--seed", 9, "--max-new-tokens", 5, "--mode", "v2_5", "--batch-size", 2, "-o", "out"]
    assert run(monkeypatch, "sample", "m", "--prompts", "p.txt", *words) == 0
    (first, second) = sorted(Path("out").glob("*.json"), reverse=True)
    assert first.name.endswith("_m_sampling_noprefix-k50.json")
    assert second.name.endswith("_m_sampling_inference_server-k50-Precise.json")
    args = json.loads(first.read_text())["args"]
    assert (args["mode"], args["seed"], args["n"], args["num_samples"]) == ("v2_5", 9, 1, 3)
    printed = capsys.readouterr().out
    command = printed.replace("\\\n", " ").split("compare the replies:")[1].split()
    assert command == ["tunesmith", "compare", *map(str, (first, second)), "-o", "page.html"]
    assert run(monkeypatch, "compare", first, second) == 0
    assert "2 models, 1 prompt" in capsys.readouterr().out


def test_the_options_of_the_best_replies_reach_their_function(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("m").mkdir()
    Path("rm").mkdir()
    calls: list[tuple[object, ...]] = []
    monkeypatch.setattr(
        sample_command, "load_heavy_part", lambda part: lambda *given, **named: calls.append((part, given, named))
    )
    assert run(monkeypatch, "sample", "m", "--best-of", 8, "--scorer", "rm", "--write", "trees", "--keep", 4) == 0
    settings, best, call = calls
    assert (settings[2]["samples"], settings[2]["sampling"]) == (8, ("noprefix:nucleus9",))  # type: ignore[index]
    assert best == ("tunesmith.apps.best_of:BestOfSettings", ("rm", "trees", 4), {})
    assert call == ("tunesmith.apps.best_of:run", (["m"], None, Path("reports"), None), {})


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["sample"], 64, "Missing argument 'MODEL"),
        (["sample", "m", "--best-of", "1"], 64, "Invalid value for '--best-of'"),
        (
            ["sample", "m", "--best-of", "4"],
            64,
            "--best-of needs a reward model that scores the replies; append --scorer",
        ),
        (["sample", "m", "--write", "trees"], 64, "--write belongs to --best-of; append --best-of 8, or leave it out"),
        (["sample", "m", "--best-of", "4", "--scorer", "none"], 66, "none: there is no such directory"),
        (["sample", "m", "--samples", "0"], 64, "Invalid value for '--samples'"),
        (["sample", "m", "--mode", "v4"], 64, "Invalid value for '--mode'"),
        (["sample", "m", "--sampling", "noprefx"], 64, "--sampling: there are no sampling configurations 'noprefx'"),
        (["sample", "m", "--prompts", "none.txt"], 66, "none.txt: the file does not exist"),
        (["sample", "m", "nowhere"], 66, "nowhere: there is no such directory; give a run directory"),
        (["sample", "runs/assistent"], 66, "runs/assistent: there is no such directory; did you mean runs/assistant?"),
        (["sample", "m", "rm"], 64, "rm: this is a reward model: it scores replies and cannot write any; score"),
        (["sample", "m", "base"], 64, "base: this model declares no prompt format: it has no tunesmith.json; for a"),
        (["sample", "m", "-o", "p.txt"], 74, "p.txt: this is not a directory, so nothing can be written to it; choose"),
    ],
)
def test_what_is_wrong_is_one_line_with_its_exit_code_before_pytorch_is_imported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], code: int, says: str
) -> None:
    for path in (Path("m"), Path("rm"), Path("base"), Path("runs/assistant")):
        path.mkdir(parents=True)
    Path("base/config.json").write_text("{}")
    Path("rm/config.json").write_text('{"architectures": ["GPTNeoXForSequenceClassification"]}')
    monkeypatch.setattr(sample_command, "load_heavy_part", lambda part: pytest.fail(f"{part} is imported"))
    assert run(monkeypatch, *words) == code
    assert says in capsys.readouterr().err
