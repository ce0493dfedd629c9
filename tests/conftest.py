"""Shared fixtures. Real data and golden vectors are optional: tests that want them skip with a line that says so."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


def _data_root() -> Path:
    return Path(os.environ.get("TUNESMITH_REAL_DATA", REPOSITORY.parent / "shared" / "data"))


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """real_data("dolly/dolly-6000.jsonl") -> its path, or a skip."""

    def find(name: str) -> Path:
        path = _data_root() / name
        if not path.exists():
            pytest.skip(f"real data {name!r} is not here (set TUNESMITH_REAL_DATA)")
        return path

    return find


@pytest.fixture(scope="session")
def golden() -> Callable[[str], dict[str, Any]]:
    """golden("dolly") -> the vectors of one topic, or a skip."""

    def find(topic: str) -> dict[str, Any]:
        path = _data_root().parent / "golden" / "open" / f"{topic}.json"
        if not path.exists():
            pytest.skip(f"golden vectors {topic!r} are not here (set TUNESMITH_REAL_DATA)")
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return content

    return find


@pytest.fixture(autouse=True)
def _denormals() -> Iterator[None]:
    """A run switches denormal numbers off for its process; tests that draw floats need them back."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)
