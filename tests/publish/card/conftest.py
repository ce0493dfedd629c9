"""Runs of the built-in recipes that the tests of cards share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.publish.card.card_runs import RECIPES, train_runs, write_world


@pytest.fixture(scope="session")
def card_runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Name of a recipe -> the directory of its finished run."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("cards")
    write_world(root)
    return dict(train_runs(root, list(RECIPES)))


@pytest.fixture(scope="session")
def dolly_run(card_runs: dict[str, Path]) -> Path:
    return card_runs["dolly-v2-3b"]
