"""Files of prompts: texts in lines, JSON strings, and conversations."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tunesmith.apps.sample_prompts import read_sample_prompts
from tunesmith.errors import DataError, MissingInputError, TunesmithError, UsageError
from tunesmith.text.tree import Message


def write(path: Path, *lines: Any) -> str:
    text = "".join(f"{line if path.suffix == '.txt' else json.dumps(line)}\n" for line in lines)
    path.write_text(text, encoding="utf-8")
    return str(path)


def texts(name: str, limit: int | None = None) -> list[str]:
    return [prompt.text for prompt in read_sample_prompts(name, limit)]


def test_every_line_of_text_is_a_prompt(tmp_path: Path) -> None:
    path = write(tmp_path / "p.txt", "One?", "", '  "Two" ', "   ", "{3}")
    assert texts(path) == ["One?", '  "Two" ', "{3}"]
    assert read_sample_prompts(path)[1].place == f"{path}:3"
    assert texts(path, 2) == ["One?", '  "Two" ']


def test_every_line_may_be_a_string_of_json(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", "One\n?", "ü", "One\n?")
    assert texts(path) == ["One\n?", "ü", "One\n?"]
    packed = tmp_path / "p.jsonl.gz"
    packed.write_bytes(gzip.compress(Path(path).read_bytes()))
    assert texts(str(packed)) == texts(path)


def test_records_have_a_prompt_or_messages(tmp_path: Path) -> None:
    turns = [
        {"role": "user", "content": "A?"},
        {"role": "assistant", "content": "B"},
        {"role": "user", "content": "C?"},
    ]
    path = write(tmp_path / "p.jsonl", {"prompt": "One?", "id": 7}, {"messages": turns})
    plain, conversation = read_sample_prompts(path)
    assert plain.as_json() == {"prompt": "One?"}
    assert conversation.messages == (Message("user", "A?"), Message("assistant", "B"), Message("user", "C?"))
    assert conversation.as_json() == {"prompt": "User: A?\n\nAssistant: B\n\nUser: C?", "messages": turns}


def test_the_published_prompts_are_read(real_data: Callable[[str], Path]) -> None:
    found = texts(str(real_data("oasst/prompt_lottery_en_250_text.jsonl")))
    assert (len(found), found[0]) == (250, "Can you tell me about GLaDOS?")


def test_the_built_in_set_is_read_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(texts("general")) == 80


@pytest.mark.parametrize(
    ("name", "content", "kind", "says"),
    [
        ("p.jsonl", '"a"\n{"prompt": "b"}\n', DataError, "p.jsonl:2: the line is an object; every line is a JSON str"),
        ("p.jsonl", '"a" "b"\n', DataError, "p.jsonl:1: there is text after the string"),
        ("p.jsonl", '"a"\n"b\n', DataError, "p.jsonl:2: the record breaks off in the middle"),
        ("p.jsonl", '"a"\n" "\n', DataError, "p.jsonl:2: the prompt is empty; remove the line"),
        ("p.jsonl", '{"answer": "b"}\n', DataError, "p.jsonl:1: there is no prompt"),
        ("p.txt", "\n\n", MissingInputError, "p.txt: there are no prompts in this file"),
        ("p.md", "a\n", DataError, "p.md"),
    ],
)
def test_a_line_that_is_no_prompt_is_an_error_with_its_place(
    tmp_path: Path, name: str, content: str, kind: type[TunesmithError], says: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(kind) as caught:
        read_sample_prompts(str(tmp_path / name))
    assert says in str(caught.value)


def test_an_unknown_name_is_an_error_that_lists_the_sets() -> None:
    with pytest.raises(UsageError, match=r"there is no file and no set of prompts 'generl'; did you mean general\?"):
        read_sample_prompts("generl")


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    suffix=st.sampled_from([".txt", ".jsonl"]), content=st.binary(max_size=40) | st.text(max_size=40).map(str.encode)
)
def test_any_file_is_read_or_refused(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"any{suffix}"
    path.write_bytes(content)
    try:
        found = read_sample_prompts(str(path))
    except TunesmithError:
        return
    assert all(prompt.text.strip() for prompt in found)
