"""Why a repository of the Hugging Face hub could not be read, in one sentence with one cause."""

from __future__ import annotations

from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

CAUSES: tuple[tuple[type[Exception], str, str], ...] = (
    (GatedRepoError, "the hub gives access to it only on request", "request it on the hub, then run: hf auth login"),
    (
        RepositoryNotFoundError,
        "the hub has no such repository, or it is private",
        "check the name; for a private one run: hf auth login",
    ),
    (RevisionNotFoundError, "the repository has no such revision", "check model.revision"),
    (HFValidationError, "there is no such directory, and it is no name of the hub", "check the path"),
    (
        LocalEntryNotFoundError,
        "there is no such directory, and the hub cannot be reached",
        "check the path, or the connection if it is a name of the hub",
    ),
)
"""(class of the error, what is wrong, what to do), the more special classes first."""


def describe_hub_error(error: Exception) -> tuple[str, str]:
    """(what is wrong, what to do)."""
    for kind, what, advice in CAUSES:
        if isinstance(error, kind):
            return what, advice
    return f"it could not be read from the hub ({type(error).__name__})", "try again later, or give a local directory"
