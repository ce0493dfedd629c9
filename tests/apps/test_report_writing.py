"""Reports in the published form: names and texts as the originals write them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tunesmith.apps.report_writing import ConfigurationOutputs, PromptOutputs, report_name, report_text

Golden = Callable[[str], dict[str, Any]]


def cases(golden: Golden, kind: str) -> list[dict[str, Any]]:
    return [case for case in golden("sampling_config")["cases"] if case["kind"] == kind]


def test_a_report_is_named_as_the_original_names_it(golden: Golden) -> None:
    found = cases(golden, "report_name")
    assert len(found) == 5
    for case in found:
        given = case["input"]
        name = report_name(given["model_name"], given["date"], Path(given["config_file"]).stem)
        assert name == case["expected"]["file_name"]


def test_a_report_has_the_bytes_of_the_original(golden: Golden) -> None:
    found = cases(golden, "report")
    assert len(found) == 4
    for case in found:
        report = case["expected"]["report"]
        prompts = [
            PromptOutputs(
                {"prompt": each["prompt"]},
                [
                    ConfigurationOutputs(result["sampling_config"], result["sampling_params"], result["outputs"])
                    for result in each["results"]
                ],
            )
            for each in report["prompts"]
        ]
        text = report_text(report["model_name"], report["date"], report["args"], prompts)
        assert hashlib.sha256(text.encode("ascii")).hexdigest() == case["expected"]["text_sha256"], case["id"]


@pytest.mark.parametrize("model", ["../../etc/x", "a/b\\c", "..", "x\x1b[0m", "a b\n"])
def test_the_name_of_a_model_cannot_lead_to_another_directory(model: str) -> None:
    name = report_name(model, "2026-01-02T03:04:05", "k50")
    assert Path(name).name == name
    assert name.isprintable()
