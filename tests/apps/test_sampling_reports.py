"""Sampling reports: whatever stands in a file, it is a report, something else, or one clear error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tunesmith.apps.prompt_additions import NO_ADDITION, PromptAddition
from tunesmith.apps.sampling_reports import SampledReplies, SamplingReport, read_report
from tunesmith.errors import DataError, MissingInputError
from tunesmith.text.tree import Message

GOOD = {"model_name": "a", "prompts": [{"prompt": "p", "results": [{"sampling_config": "c", "outputs": ["x", "y"]}]}]}

LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
KEYS = st.sampled_from(["model_name", "prompts", "prompt", "results", "outputs", "sampling_config", "other"])
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4))


def test_a_report_is_read_with_repeated_settings_joined(tmp_path: Path) -> None:
    report = json.loads(json.dumps(GOOD))
    report["prompts"][0]["results"].append({"sampling_config": "c", "outputs": ["z</s>"]})
    path = tmp_path / "report.json"
    path.write_text(json.dumps(report))
    replies = SampledReplies("p", {"c": ("x", "y", "z")}, {"c": (False, False, True)})
    assert read_report(path) == SamplingReport("report.json", "a", (replies,), {"c": {}})


def test_date_and_parameters_are_read_where_a_report_has_them(tmp_path: Path) -> None:
    report = json.loads(json.dumps(GOOD)) | {"date": "2023-04-03T20:32:13"}
    report["prompts"][0]["results"][0]["sampling_params"] = {"top_p": 0.9}
    path = tmp_path / "report.json"
    path.write_text(json.dumps(report))
    found = read_report(path)
    assert found is not None
    assert (found.date, found.parameters) == ("2023-04-03T20:32:13", {"c": {"top_p": 0.9}})
    path.write_text(json.dumps(report | {"date": 3}))
    found = read_report(path)
    assert found is not None
    assert found.date == ""


def test_a_prompt_of_several_turns_has_its_messages(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    report = json.loads(json.dumps(GOOD))
    report["prompts"][0] |= {"prompt": "User: a ..", "messages": turns}
    path = tmp_path / "report.json"
    path.write_text(json.dumps(report))
    found = read_report(path)
    assert found is not None
    assert found.prompts[0].conversation == (Message("user", "a"), Message("assistant", "b"), Message("user", "c"))
    report["prompts"][0]["messages"] = []
    path.write_text(json.dumps(report))
    with pytest.raises(DataError, match=r"report\.json: prompts\[0\]: "):
        read_report(path)


def test_what_a_configuration_adds_to_prompts_is_read_where_a_report_says_it(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    profile = {"humor": 0.9, "lang": "de", "length": 2, "quality": 1.5, "creativity": True, "other": 1}
    given = {"c": {"pre_text": "Be brief.", "system_profile": profile}, "d": {"pre_text": 3}, "e": "text"}
    path.write_text(json.dumps(GOOD | {"args": {"prompt_additions": given}}))
    found = read_report(path)
    assert found is not None
    addition = found.addition("c")
    assert addition == PromptAddition("Be brief.", (("lang", "de"), ("length", 2), ("humor", 0.9)))
    assert [found.addition(name) for name in ("d", "e", "other")] == [NO_ADDITION] * 3
    asked = (Message("user", "p", tools="[]"), Message("assistant", "r"), Message("user", "q"))
    system = Message("system", "Be brief.", tools="[]")
    assert addition.messages(asked) == (system, Message("user", "p"), *asked[1:])
    assert NO_ADDITION.messages(asked) == asked
    assert addition.reply("x", 1) == Message("assistant", "x", rank=1, lang="de", labels={"humor": 0.9})


def test_a_reply_may_contain_nul_which_models_with_byte_level_tokenizers_write(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(json.dumps(GOOD).replace('"x"', '"a\\u0000b"'))
    found = read_report(path)
    assert found is not None
    assert found.prompts[0].outputs == {"c": ("a\0b", "y")}
    path.write_text(path.read_text().replace("\\u0000", "\\ud800"))
    with pytest.raises(DataError, match="half a character"):
        read_report(path)


def test_the_end_tokens_that_a_report_names_are_taken_off(tmp_path: Path) -> None:
    report = json.loads(json.dumps(GOOD)) | {"args": {"end_tokens": ["### End", 3, ""]}}
    report["prompts"][0]["results"][0]["outputs"] = ["x### End", "y"]
    path = tmp_path / "report.json"
    path.write_text(json.dumps(report))
    found = read_report(path)
    assert found is not None
    assert (found.prompts[0].outputs, found.prompts[0].ended) == ({"c": ("x", "y")}, {"c": (True, False)})


@pytest.mark.parametrize(
    "text", ["", "\n", "[]", '{"messages": []}\n{"messages": []}\n', '{"prompts": 3}', '{\n"a": 1}', "{} {}", "text"]
)
def test_what_is_no_report_is_left_to_the_readers_of_records(tmp_path: Path, text: str) -> None:
    path = tmp_path / "records.jsonl"
    path.write_text(text)
    assert read_report(path) is None


def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="does not exist"):
        read_report(tmp_path / "report.json")


def outcome(path: Path) -> SamplingReport | DataError | None:
    try:
        return read_report(path)
    except DataError as error:
        return error


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    value=VALUES,
    changed=st.sampled_from(
        [
            *(
                "model_name",
                "prompts",
                "prompt",
                "results",
                "outputs",
                "messages",
                "tools",
                "args",
                "end_tokens",
                "none",
            ),
            *("prompt_additions", "pre_text", "system_profile"),
        ]
    ),
    lines=st.booleans(),
)
def test_any_value_in_any_place_is_a_report_or_nothing_or_one_error(
    tmp_path: Path, value: Any, changed: str, lines: bool
) -> None:
    added: dict[str, Any] = {"c": {"pre_text": "P", "system_profile": {"lang": "de"}}}
    report = json.loads(json.dumps(GOOD)) | {"args": {"end_tokens": ["x"], "prompt_additions": added}}
    report["prompts"][0]["messages"] = [{"role": "user", "content": "p"}]
    places = {
        "args": report,
        "end_tokens": report["args"],
        "prompt_additions": report["args"],
        "pre_text": added["c"],
        "system_profile": added["c"],
        "messages": report["prompts"][0],
        "tools": report["prompts"][0],
        "model_name": report,
        "prompts": report,
        "prompt": report["prompts"][0],
        "results": report["prompts"][0],
        "outputs": report["prompts"][0]["results"][0],
    }
    if changed in places:
        places[changed][changed] = value
    else:
        report = value
    path = tmp_path / "report.json"
    path.write_text(json.dumps(report, indent=1 if lines else None))
    found = outcome(path)
    assert found is None or "report.json" in str(found)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 200), lines=st.booleans(), tail=st.binary(max_size=5))
def test_a_report_that_was_cut_or_damaged_is_one_error_or_nothing(
    tmp_path: Path, cut: int, lines: bool, tail: bytes
) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(json.dumps(GOOD, indent=1 if lines else None).encode()[:cut] + tail)
    found = outcome(path)
    assert found is None or "report.json" in str(found)
