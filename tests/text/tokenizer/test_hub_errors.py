"""A hub name that cannot be read is explained by one cause, and each cause has its own advice."""

from __future__ import annotations

from unittest.mock import Mock

import pytest
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tunesmith.text.tokenizer.hub_errors import CAUSES, describe_hub_error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (GatedRepoError("x", response=Mock()), "only on request"),
        (RepositoryNotFoundError("x", response=Mock()), "no such repository"),
        (RevisionNotFoundError("x", response=Mock()), "no such revision"),
        (HFValidationError("x"), "no name of the hub"),
        (LocalEntryNotFoundError("x"), "the hub cannot be reached"),
        (HfHubHTTPError("x", response=Mock()), "could not be read from the hub (HfHubHTTPError)"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_every_error_has_its_cause(error: Exception, expected: str) -> None:
    what, advice = describe_hub_error(error)
    assert expected in what
    assert advice


def test_a_special_class_comes_before_the_class_that_it_extends() -> None:
    kinds = [kind for kind, _, _ in CAUSES]
    for index, kind in enumerate(kinds):
        assert not any(issubclass(later, kind) for later in kinds[index + 1 :]), kind
