"""Shared fixtures. Real data and golden vectors are optional: without them the tests that need them are skipped."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tunesmith.text.formats.registry import build_format
from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.text.tokens.render import Renderer

REPOSITORY = Path(__file__).resolve().parent.parent

# `nohup` and shells that start a program in the background let it, and all that it starts, ignore these signals.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)

# Hypothesis fails a test whose example takes 0.2 seconds, which on a busy machine any of them may do.
settings.register_profile("busy machine", deadline=None)
settings.load_profile("busy machine")


def _data_root() -> Path:
    return Path(os.environ.get("TUNESMITH_REAL_DATA", REPOSITORY.parent / "shared" / "data"))


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """real_data("dolly/dolly-6000.jsonl") -> its path; the test is skipped if it does not exist."""

    def find(name: str) -> Path:
        path = _data_root() / name
        if not path.exists():
            pytest.skip(f"real data {name!r} is missing (set TUNESMITH_REAL_DATA)")
        return path

    return find


@pytest.fixture(scope="session")
def golden() -> Callable[[str], dict[str, Any]]:
    """golden("dolly") -> the vectors of one topic; the test is skipped if they do not exist."""

    def find(topic: str) -> dict[str, Any]:
        path = _data_root().parent / "golden" / "open" / f"{topic}.json"
        if not path.exists():
            pytest.skip(f"golden vectors {topic!r} are missing (set TUNESMITH_REAL_DATA)")
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return content

    return find


@pytest.fixture(autouse=True)
def _denormals() -> Iterator[None]:
    """A run flushes denormal numbers to zero in its process; this is undone after each test, since others need them."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)


@pytest.fixture(autouse=True)
def _signal_handlers() -> Iterator[None]:
    """The command `train` leaves stop signals ignored, for the end of its process; this is undone after each test."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        if signal.getsignal(number) is not handler:
            signal.signal(number, handler)


@pytest.fixture(scope="session")
def real(real_data: Callable[[str], Path]) -> Callable[..., Renderer]:
    """real("oasst", "pythia", prefix="Be kind.") -> a renderer with a real tokenizer, or a skip."""
    loaded: dict[tuple[str, tuple[str, ...]], Tokenizer] = {}

    def build(name: str, tokenizer: str, **options: Any) -> Renderer:
        chosen = build_format(name, options)
        key = (tokenizer, chosen.controls)
        if key not in loaded:
            loaded[key] = Tokenizer.load(str(real_data(f"tokenizers/{tokenizer}")), chosen.controls)
        return Renderer(chosen, loaded[key])

    return build
