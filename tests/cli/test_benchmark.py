"""`tunesmith benchmark` before anything is loaded."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tunesmith.cli import benchmark
from tunesmith.errors import MissingInputError, TunesmithError, UsageError


def test_without_the_harness_one_sentence_names_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "find_spec", lambda name: None)
    with pytest.raises(MissingInputError) as error:
        benchmark.benchmark(["model"], data="data")
    assert str(error.value).endswith("; pip install 'tunesmith[eval]'")


def test_without_data_nothing_is_downloaded_unasked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="--data hub downloads them"):
        benchmark.benchmark(["model"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"models": ["runs/assistent"]}, "runs/assistent: there is no such directory; did you mean runs/assistant?"),
        ({"models": ["m", "rm"]}, "rm: this is a reward model"),
        (
            {"chat": "both"},
            "m: this model declares no prompt format: it has no tunesmith.json; for a base model append",
        ),
        ({"chat": "both", "prompt_format": "chatlm"}, "unknown prompt format 'chatlm'; did you mean 'chatml'"),
        ({"output": Path("m/config.json")}, "m/config.json: this is not a directory"),
        ({"data": "zeroshoot"}, "zeroshoot: there is no such directory; --data names a directory"),
        ({}, "zeroshot/arc_easy.test.jsonl: this file is missing with question, choices, answerKey in every row"),
        ({"tasks": ""}, "no task is named"),
    ],
)
def test_what_is_missing_is_an_error_before_the_harness_is_imported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: dict[str, Any], expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for path in ("m", "rm", "runs/assistant", "zeroshot"):
        Path(path).mkdir(parents=True)
    Path("m/config.json").write_text("{}")
    Path("rm/config.json").write_text('{"architectures": ["GPTNeoXForSequenceClassification"]}')
    monkeypatch.setattr(benchmark, "load_heavy_part", lambda part: pytest.fail(f"{part} is imported"))
    with pytest.raises(TunesmithError, match=re.escape(expected)):
        benchmark.benchmark(**{"models": ["m"], "data": "zeroshot", "tasks": "arc_easy", **arguments})


def test_a_base_model_without_chats_needs_no_format(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    Path("m").mkdir()
    Path("m/config.json").write_text("{}")
    calls: list[tuple[object, ...]] = []
    monkeypatch.setattr(benchmark, "load_heavy_part", lambda part: lambda *given: calls.append(given))
    monkeypatch.setattr(benchmark, "load_part", lambda part: lambda *given: given)
    benchmark.benchmark(["m"], data="zeroshot", tasks="arc_easy, piqa")
    ((models, options),) = calls
    assert (models, options[0]) == (["m"], ("arc_easy", "piqa"))  # type: ignore[index]
