"""Fixtures of the server's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.serve.served import LOG, end_models, new_models, new_parts
from tunesmith.serve.app.factory import ServerParts
from tunesmith.serve.engine.models import ServedModels


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedModels]:
    found = new_models(tmp_path_factory.mktemp("served"))
    yield found
    end_models(found)


@pytest.fixture(scope="session")
def parts(models: ServedModels) -> ServerParts:
    return new_parts(models)


@pytest.fixture(autouse=True)
def _no_errors() -> Iterator[None]:
    """A server that logs an error has a fault, unless the test takes what was logged."""
    LOG.clear()
    yield
    assert not LOG
