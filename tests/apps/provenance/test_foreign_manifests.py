"""Whatever the manifest of a run holds, commands that read it end with a result or with an error of one line."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.report.run_directories import recipe_values, write_run
from tunesmith.apps.provenance.diff import run as diff
from tunesmith.apps.provenance.verify import run as verify
from tunesmith.errors import DataError, TunesmithError

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_subnormal=False)
    | st.text(max_size=8)
    | st.sampled_from(["../x", "/", ""])
)
JSON = st.recursive(
    SCALARS, lambda child: st.lists(child, max_size=3) | st.dictionaries(st.text(max_size=8), child, max_size=3)
)
STATUS = {"state": "finished", "step": 1, "steps": 1, "updated": "", "remaining": None, "reason": "", "checks": []}


@pytest.fixture(scope="module")
def manifest(finished: Callable[[str], Path]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((finished("sft") / "run" / "manifest.json").read_text())
    return found


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Two directories of runs that were never trained."""
    values = {"data": {"cache": str(tmp_path / "cache")}}
    first = write_run(tmp_path / "one", recipe_values(**values), {"data": {"content": "a"}}, STATUS, [])
    return first, shutil.copytree(first, tmp_path / "two")


def check(pair: tuple[Path, Path], text: str) -> None:
    """Both commands on a run with this manifest."""
    first, second = pair
    (second / "manifest.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    for command in (lambda: diff(first, second, target=io.StringIO()), lambda: verify(second, io.StringIO())):
        with contextlib.suppress(TunesmithError):
            command()


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=JSON)
def test_any_json_is_a_result_or_an_error(pair: tuple[Path, Path], value: Any) -> None:
    check(pair, json.dumps(value))


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value that is nested in another."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield (*path, key)
        yield from places(value[key], (*path, key))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), value=JSON)
def test_a_manifest_with_another_value_anywhere_is_a_result_or_an_error(
    pair: tuple[Path, Path], manifest: dict[str, Any], data: st.DataObject, value: Any
) -> None:
    *path, last = data.draw(st.sampled_from(list(places(manifest))))
    changed = json.loads(json.dumps(manifest))
    place = changed
    for key in path:
        place = place[key]
    place[last] = value
    check(pair, json.dumps(changed))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not valid JSON"),
        ("[]", "not a JSON object"),
        ("[" * 100_000, "not valid JSON"),
        ('{"starts": 1}', "starts: Input should be a valid tuple"),
        ('{"starts": [{"time": 1}]}', r"starts.0.time: Input should be a valid string"),
        ('{"results": {"step": "x"}}', r"results.step: Input should be a valid integer"),
        ('{"resolved": {"values": 1, "origins": {}}}', r"resolved.values: Input should be a valid dictionary"),
    ],
)
def test_what_is_wrong_is_named(pair: tuple[Path, Path], text: str, reason: str) -> None:
    (pair[1] / "manifest.json").write_text(text)
    with pytest.raises(DataError, match=rf"two/manifest.json: {reason}"):
        diff(*pair)


def test_a_file_outside_of_the_run_is_not_read(pair: tuple[Path, Path], manifest: dict[str, Any]) -> None:
    for name in ("../one/recipe.yaml", "/etc/hostname", "a\0b", ""):
        changed = {**manifest, "results": {**manifest["results"], "files": {name: "0" * 64}}}
        (pair[1] / "manifest.json").write_text(json.dumps(changed))
        target = io.StringIO()
        with pytest.raises(TunesmithError):
            verify(pair[1], target)
        assert "is not the name of a file of the run" in target.getvalue()
