"""Runs of the built-in recipes that the tests of cards share; each is trained when the first test asks for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch

from tests.publish.card.card_runs import train_run, write_world


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """trained("dolly-v2-3b") -> the directory of the finished run of a recipe."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("cards")
    write_world(root)
    return cache(lambda name: train_run(root, name))


@pytest.fixture(scope="session")
def dolly_run(trained: Callable[[str], Path]) -> Path:
    return trained("dolly-v2-3b")
