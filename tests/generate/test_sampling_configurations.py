"""Sampling configurations: the built-in files, the merge of the original, and what a user may write wrongly."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tunesmith.errors import DataError, MissingInputError, TunesmithError, UsageError
from tunesmith.generate.sampling_configurations import (
    BUILT_IN,
    SamplingConfiguration,
    built_in_names,
    merge,
    open_sampling_file,
    parse_configuration,
)

Golden = Callable[[str], dict[str, Any]]

PUBLISHED = {
    "noprefix": 6, "noprefix2": 3, "noprefix2_profile": 3, "system_profile": 6, "system_profile2": 3, "default": 5,
    "default_rallio": 5, "synth": 4, "synth_rallio": 4, "synth2": 6, "synth2_gale_prefix": 6,
    "synth2_rallio_original": 6, "llama2_prompt": 3,
}  # fmt: skip
"""Files of Open-Assistant -> their number of configurations."""


def write(path: Path, content: Any) -> str:
    path.write_text(json.dumps(content), encoding="utf-8")
    return str(path)


def test_the_published_files_and_the_presets_of_the_chat_are_built_in() -> None:
    found = {name: len(open_sampling_file(name).configurations) for name in built_in_names()}
    assert found == {**PUBLISHED, "inference_server": 8}


def test_the_origin_and_license_of_the_files_are_in_their_directory() -> None:
    assert "Apache License 2.0" in (BUILT_IN / "ORIGIN.md").read_text(encoding="utf-8")


def test_every_published_configuration_has_the_values_that_the_original_merged(golden: Golden) -> None:
    cases = [case for case in golden("sampling_config")["cases"] if case["kind"] == "named_config"]
    assert len(cases) == 57
    for case in cases:
        stem = Path(case["input"]["config_file"]).stem
        found = open_sampling_file(stem)
        expected, text = case["expected"], case["expected"]["pre_text"]
        assert [each.name for each in found.configurations] == case["settings"]["all_names_in_order"]
        (one,) = open_sampling_file(f"{stem}:{case['input']['configuration']}").configurations
        assert list(one.generate_args.items()) == list(expected["generate_args"].items()), case["id"]
        assert dict(one.own_args) == case["input"]["own_generate_args"]
        assert (one.human_name, one.bot_name) == (expected["human_name"], expected["bot_name"])
        assert one.add_prefix_tokens == expected["add_prefix_tokens"]
        if text is not None:
            digest = hashlib.sha256(one.pre_text.encode()).hexdigest()
            assert (len(one.pre_text), digest) == (text["characters"], text["sha256"])
        else:
            assert one.pre_text == ""
        if case["settings"]["script"] == "oa":  # the other script has no profiles
            assert dict(one.system_profile) == (expected["system_profile"] or {})


def test_a_configuration_is_merged_with_the_default_as_in_the_original(golden: Golden) -> None:
    cases = [case for case in golden("sampling_config")["cases"] if case["kind"] == "merge"]
    assert len(cases) == 10
    for case in cases:
        default, configuration = (case["input"][key] for key in ("default", "configuration"))
        base = None if default is None else parse_configuration(default, Path("f"), "default")
        found = merge(base, parse_configuration(configuration, Path("f"), "configurations[0]"))
        expected = case["expected"]
        for key in ("name", "pre_text", "human_name", "bot_name"):
            assert getattr(found, key) == (expected[key] or ""), case["id"]
        assert list(found.generate_args.items()) == list(expected["generate_args"].items())
        assert found.add_prefix_tokens == expected["add_prefix_tokens"]
        if case["settings"]["script"] == "oa":
            assert dict(found.system_profile) == (expected["system_profile"] or {})


def test_only_a_configuration_that_is_greedy_itself_is_sampled_once() -> None:
    greedy = SamplingConfiguration("g", generate_args={"do_sample": False}, own_args={"do_sample": False})
    inherited = merge(SamplingConfiguration(generate_args={"do_sample": False}), SamplingConfiguration("i"))
    assert (greedy.samples(3), inherited.samples(3), greedy.samples(0)) == (1, 3, 0)


def test_a_file_may_be_named_or_given_by_its_path_and_one_configuration_chosen(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.json", {"configurations": [{"name": "a"}, {"name": "b:c"}]})
    assert open_sampling_file(path).stem == "mine"
    assert [each.name for each in open_sampling_file(f"{path}:b:c").configurations] == ["b:c"]
    two = open_sampling_file("noprefix:greedy,k50")
    assert (two.stem, [each.name for each in two.configurations]) == ("noprefix-k50-greedy", ["k50", "greedy"])
    assert open_sampling_file(f"{path}:b:c").stem == "mine-b_c"


@pytest.mark.parametrize(
    ("name", "kind", "says"),
    [
        ("noprefx", UsageError, "there are no sampling configurations 'noprefx'; did you mean noprefix?"),
        ("qqq", UsageError, "built in: default, default_rallio"),
        ("noprefix:k500", UsageError, "noprefix has no configuration 'k500'; did you mean k50?"),
        ("noprefix:x", UsageError, "noprefix has no configuration 'x'; it has nucleus9, k50, typical2"),
        ("nowhere.json", MissingInputError, "nowhere.json: the file cannot be read"),
    ],
)
def test_an_unknown_name_is_an_error_that_lists_the_known_ones(
    name: str, kind: type[TunesmithError], says: str
) -> None:
    with pytest.raises(kind) as caught:
        open_sampling_file(name)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ([], "not a JSON object"),
        ({}, "configurations: missing, but must be a list"),
        ({"configurations": []}, "configurations: empty"),
        ({"configurations": [{"name": "a"}], "defaults": {}}, "defaults: unknown key; did you mean default?"),
        ({"configurations": [{}]}, "configurations[0].name: a name is missing"),
        ({"configurations": [{"name": "a"}, {"name": "a"}]}, "configurations[1].name: 'a' occurs twice"),
        ({"configurations": [{"name": "a", "args": {}}]}, "configurations[0].args: unknown key"),
        ({"configurations": [{"name": 3}]}, "configurations[0].name: a number, but must be text"),
        ({"configurations": [{"name": "a", "generate_args": []}]}, "configurations[0].generate_args: a list"),
        ({"configurations": ["a"]}, "configurations[0]: text, but must be an object"),
        ({"default": {"system_profile": {"humour": 1}}, "configurations": [{"name": "a"}]},
         "default.system_profile.humour: unknown key; did you mean humor?"),
        ({"configurations": [{"name": "a", "system_profile": {"quality": 2}}]},
         "configurations[0].system_profile.quality: 2, but must be a number from 0 to 1"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used_is_an_error_with_its_place(tmp_path: Path, content: Any, says: str) -> None:
    path = write(tmp_path / "bad.json", content)
    with pytest.raises(DataError) as caught:
        open_sampling_file(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert says in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"name": "a", "pre_text": "x", "pre_text": "y"}', "key 'pre_text' occurs twice in one object; keep one"),
        ('{"name": "a", "generate_args": {"top_k": 1, "top_k": 2}}', "key 'top_k' occurs twice in one object"),
        ('{"name": "a", "pre_text": "\\ud800"}', "a text has half a character in it"),
        ('{"name": "a", "generate_args": {"top_p": NaN}}', "NaN is not a JSON number"),
    ],
)
def test_a_key_that_occurs_twice_and_half_a_character_are_refused(
    tmp_path: Path, text: str, says: str, encoding: str
) -> None:
    (tmp_path / "bad.json").write_text(f' {{"configurations": [{text}]}}\n', encoding)
    with pytest.raises(DataError) as caught:
        open_sampling_file(str(tmp_path / "bad.json"))
    assert str(caught.value).startswith(f"{tmp_path}/bad.json: {says}")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
WORDS = st.sampled_from(["name", "generate_args", "pre_text", "system_profile", "humor", "lang", "add_prefix_tokens"])
ENTRIES = st.dictionaries(WORDS, VALUES | st.dictionaries(WORDS, VALUES, max_size=3), max_size=4)
FILES = st.fixed_dictionaries({"configurations": VALUES | st.lists(ENTRIES, max_size=3)}, optional={"default": ENTRIES})


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(content=FILES | VALUES)
def test_any_json_is_read_or_refused(tmp_path: Path, content: Any) -> None:
    path = write(tmp_path / "any.json", content)
    try:
        found = open_sampling_file(path)
    except TunesmithError:
        return
    assert all(each.name and isinstance(each.generate_args, dict) for each in found.configurations)
