"""A hostile model directory opens nothing else, runs nothing and writes nothing raw to the terminal."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.model.hostile_directories import LOADED, REFUSED, write_outside
from tests.model.trees import small_model
from tunesmith.errors import TunesmithError
from tunesmith.evaluate.reward_scorer import open_reward_scorer
from tunesmith.generate.export_directory import open_engine
from tunesmith.model.load import is_classifier, load_model, read_architecture
from tunesmith.model.reward_model import load_reward_model, start_reward_model

CASES = {**LOADED, **REFUSED}
IN_OPEN, IN_NONBLOCK = 0x20, 0x800
WATCHED: list[tuple[str, Any]] = []
FORBIDDEN = {"pickle.find_class", "socket.connect", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn"}


@pytest.fixture(scope="module", autouse=True)
def _audit() -> None:
    """Record every attempt to unpickle, connect or start a program, as Python itself reports it."""
    sys.addaudithook(lambda event, details: WATCHED.append((event, details)) if event in FORBIDDEN else None)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("sound")
    small_model("llama").save_pretrained(directory)
    return directory


@pytest.fixture
def directory(tmp_path: Path, sound: Path) -> Path:
    write_outside(tmp_path / "outside", sound)
    shutil.copytree(sound, tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def _alarm() -> Iterator[None]:
    """A device or queue that is opened must not stop the test."""

    def stop(*_: Any) -> None:
        raise TimeoutError("it still reads")

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(5)
    yield
    signal.alarm(0)


class Watch:
    """Counts how often files of a directory are opened, by any code of this process or another (inotify)."""

    def __init__(self, directory: Path) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._libc.inotify_init1(IN_NONBLOCK)
        assert self._libc.inotify_add_watch(self._descriptor, os.fsencode(directory), IN_OPEN) >= 0

    def opened(self) -> bool:
        """Whether any was opened since the last call."""
        try:
            return bool(os.read(self._descriptor, 1 << 16))
        except BlockingIOError:
            return False

    def close(self) -> None:
        os.close(self._descriptor)


def weights_of(directory: Path) -> dict[str, torch.Tensor]:
    return dict(load_model(str(directory)).state_dict())


@pytest.mark.usefixtures("_alarm")
@pytest.mark.parametrize("case", CASES)
def test_a_hostile_directory_reaches_nothing(
    case: str, directory: Path, sound: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    outside = directory.parent / "outside"
    CASES[case](directory, outside)
    monkeypatch.chdir(directory.parent)
    WATCHED.clear()
    watch = Watch(outside)
    try:
        found = weights_of(directory)
        outcome = ""
    except TunesmithError as error:
        outcome = str(error)
    assert not watch.opened()
    watch.close()
    assert WATCHED == []
    assert not list(directory.parent.rglob("canary"))
    printed = "".join(capfd.readouterr())
    assert not {"\x1b", "\x9b"} & set(printed + outcome)
    assert "\n" not in outcome
    assert "Traceback" not in printed
    assert (case in LOADED) == (outcome == ""), outcome
    if case in LOADED:
        expected = weights_of(sound)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)


ENTRIES: dict[str, Callable[[str], object]] = {
    "model of a recipe": read_architecture,
    "kind of a model": is_classifier,
    "reward model": load_reward_model,
    "start of a reward model": start_reward_model,
    "scoring": open_reward_scorer,
    "chat": lambda path: open_engine(path, "plain"),
}
CHOSEN = ("index names a pickle", "weights are a link outside", "configuration is a queue", "kind is a list")


@pytest.mark.usefixtures("_alarm")
@pytest.mark.parametrize("case", CHOSEN)
@pytest.mark.parametrize("entry", ENTRIES)
def test_every_entry_of_a_model_has_the_check(entry: str, case: str, directory: Path) -> None:
    outside = directory.parent / "outside"
    CASES[case](directory, outside)
    WATCHED.clear()
    watch = Watch(outside)
    with pytest.raises(TunesmithError) as error:
        ENTRIES[entry](str(directory))
    assert "\n" not in str(error.value)
    assert not watch.opened()
    watch.close()
    assert WATCHED == []


def test_the_watch_sees_what_is_opened_in_native_code(directory: Path) -> None:
    outside = directory.parent / "outside"
    watch = Watch(outside)
    weights_of(outside)
    assert watch.opened()
    watch.close()


def test_the_audit_sees_a_pickle(directory: Path) -> None:
    outside = directory.parent / "outside"
    WATCHED.clear()
    with pytest.raises(Exception):  # noqa: B017, PT011 (torch has several)
        torch.load(outside / "a.bin", weights_only=False)
    assert ("pickle.find_class") in [event for event, _ in WATCHED]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
KEYS = ("model_type", "architectures", "hidden_size", "vocab_size", "rope_parameters", "num_hidden_layers", "dtype")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(entries=st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=12), JSON, min_size=1, max_size=3))
def test_any_configuration_loads_or_is_one_line(entries: dict[str, Any], directory: Path, sound: Path) -> None:
    content = json.loads((sound / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({**content, **entries}))
    _loads_or_is_one_line(directory)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=JSON, where=st.sampled_from(["whole", "map", "file"]))
def test_any_index_loads_or_is_one_line(value: Any, where: str, directory: Path) -> None:
    (directory / "model.safetensors").unlink(missing_ok=True)
    content = value if where == "whole" else {"weight_map": value if where == "map" else {"x": value}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(content))
    _loads_or_is_one_line(directory)


def _loads_or_is_one_line(directory: Path) -> None:
    outcome = ""
    try:
        load_model(str(directory))
    except TunesmithError as error:
        outcome = str(error)
    assert "\n" not in outcome
    assert "\x1b" not in outcome
