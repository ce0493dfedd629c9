"""A model repository of the Hugging Face Hub: its branches, the hashes of their files, and commits."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal
from urllib.parse import urlsplit

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import (  # type: ignore[attr-defined]
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,  # of httpx or httpx2, by the version of huggingface_hub
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile

from tunesmith.errors import MissingInputError, StorageError, UsageError
from tunesmith.publish.hub.contents import PublishedFile
from tunesmith.text.visible import visible

MAIN = "main"
GENERATED = (".gitattributes",)
"""Files that the hub itself puts into a repository."""
IN_MEMORY = 1 << 20
"""Bytes from which a file is not read as a whole."""
TOKEN = re.compile(r"Bearer .*", re.DOTALL)
Gate = Literal["auto", "manual"]
AGAIN = "run the same command again; it continues where it ended, and the published branch is unchanged"
LOGIN = "log in with `hf auth login`, or set HF_TOKEN to a token that may write to this repository"


class HubRepository:
    """One model repository; every method raises a TunesmithError with what to do where the hub refuses or fails."""

    def __init__(self, name: str, api: HfApi) -> None:
        """name: like ``owner/model``."""
        self.name, self._api = name, api

    def create(self, *, private: bool) -> bool:
        """Create the repository if there is none. Returns whether it is private now."""
        with self._errors():
            self._api.create_repo(self.name, private=private, exist_ok=True)
            return bool(self._api.repo_info(self.name).private)

    def set_access(self, *, gate: Gate | None, private: bool | None) -> None:
        """Set what is given: the condition for access, and whether the repository is private."""
        with self._errors():
            if gate is not None:
                self._api.update_repo_settings(self.name, gated=gate)
            if private is not None:
                self._api.update_repo_settings(self.name, private=private)

    def head(self, branch: str) -> str | None:
        """The last commit of a branch; None if there is no such branch."""
        with self._errors():
            try:
                return self._api.repo_info(self.name, revision=branch).sha
            except RevisionNotFoundError:
                return None

    def create_branch(self, branch: str, commit: str) -> None:
        """Create a branch that starts at a commit."""
        with self._errors():
            self._api.create_branch(self.name, branch=branch, revision=commit)

    def delete_branch(self, branch: str) -> None:
        """Delete a branch."""
        with self._errors():
            self._api.delete_branch(self.name, branch=branch)

    def hashes(self, revision: str) -> dict[str, str]:
        """Name -> SHA-256 of each large file, SHA-1 of git of each small one, as the hub computed them."""
        with self._errors():
            entries = list(self._api.list_repo_tree(self.name, recursive=True, revision=revision))
        files = [each for each in entries if isinstance(each, RepoFile) and each.path not in GENERATED]
        return {each.path: each.lfs.sha256 if each.lfs is not None else each.blob_id for each in files}

    def commit(
        self, branch: str, parent: str, files: Sequence[PublishedFile], deleted: Sequence[str], message: str
    ) -> None:
        """Upload files, unless the hub has their content, and put them on a branch in one commit.

        parent: the last commit of the branch. If it has another one by now, nothing is changed.
        deleted: names of files to delete.
        """
        changes: list[CommitOperationAdd | CommitOperationDelete] = [
            *(_addition(each) for each in files),
            *(CommitOperationDelete(path_in_repo=each) for each in deleted),
        ]
        with self._errors():
            self._api.create_commit(
                self.name, changes, commit_message=message, revision=branch, parent_commit=parent, num_threads=2
            )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OfflineModeIsEnabled as error:
            raise UsageError("HF_HUB_OFFLINE is set", where=self.name, advice="unset it to publish") from error
        except (LocalTokenNotFoundError, GatedRepoError, RepositoryNotFoundError) as error:
            what = "the hub has no such repository for this token, or there is no token"
            raise MissingInputError(what, where=self.name, advice=LOGIN) from error
        except HFValidationError as error:
            raise UsageError("this is no name of the hub", where=self.name, advice="write hub:OWNER/MODEL") from error
        except HfHubHTTPError as error:
            raise _refusal(self.name, error) from error
        except (HTTPError, OSError, ValueError, KeyError, RuntimeError) as error:
            cause = error if isinstance(error, OSError) else error.__cause__
            if isinstance(cause, OSError) and cause.filename:
                raise _unreadable(cause.filename, cause.strerror) from error
            # An illegal header is quoted in the message, and the token is in a header.
            said = str(error) if cause in (None, error) else f"{error} {cause}"
            reason = visible(" ".join(TOKEN.sub("Bearer ...", said).split()))[:200]
            what = f"the hub cannot be used ({type(error).__name__}: {reason})"
            raise StorageError(what, where=self.name, advice=AGAIN) from error


def _addition(file: PublishedFile) -> CommitOperationAdd:
    """A file with the content that was hashed. Raises StorageError for one that was changed or deleted since.

    Small files, which the client library would read again when it sends them, are in memory.
    """
    try:
        content = file.path.read_bytes() if file.size < IN_MEMORY else file.path
        found = CommitOperationAdd(path_in_repo=file.name, path_or_fileobj=content)
    except OSError as error:
        raise _unreadable(str(file.path), error.strerror) from error
    except ValueError as error:  # what the library says about a path without a file
        raise _unreadable(str(file.path), "there is no such file") from error
    if found.upload_info.sha256.hex() != file.sha256:
        what = "this file was changed after its hash was computed"
        raise StorageError(what, where=file.path, advice=f"wait until nothing writes to the directory, then {AGAIN}")
    return found


def _unreadable(path: str, reason: str | None) -> StorageError:
    return StorageError(f"the file cannot be read: {reason}", where=path, advice=f"put it back, then {AGAIN}")


def _refusal(name: str, error: HfHubHTTPError) -> StorageError | UsageError:
    """The error for an answer of the hub that is none of the usual ones."""
    status = error.response.status_code
    said = visible(" ".join((error.server_message or "").split()))[:200]
    details = f": {said}" if said else ""
    if (
        status in (401, 403)
        and error.response.history
        and (place := _origin(error.response.url)) != _origin(error.response.history[0].url)
    ):
        what = f"the hub sends requests on to {place}, which does not get the token"
        return UsageError(what, where=name, advice="set HF_ENDPOINT to that address if it is your hub")
    if status in (401, 403):
        return UsageError(f"the hub refuses access (HTTP {status}){details}", where=name, advice=LOGIN)
    if status in (409, 412):
        return StorageError(
            f"the branch was changed by somebody else meanwhile (HTTP {status}){details}",
            where=name,
            advice="look at the repository, then run the same command again",
        )
    if status == 429:
        return StorageError("the hub has had too many requests (HTTP 429)", where=name, advice=f"wait, then {AGAIN}")
    return StorageError(f"the hub failed (HTTP {status}){details}", where=name, advice=AGAIN)


def _origin(url: object) -> str:
    """Scheme, host and port of an address."""
    parts = urlsplit(str(url))
    return visible(f"{parts.scheme}://{parts.netloc}")


def differing(wanted: Sequence[PublishedFile], present: Mapping[str, str]) -> list[PublishedFile]:
    """Files that a branch does not have with this content."""
    return [each for each in wanted if present.get(each.name) not in (each.sha256, each.blob)]
