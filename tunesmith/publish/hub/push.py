"""`tunesmith push`: publishes an export, all of it or nothing.

The files go to a staging branch. When the hashes that the hub computed for them are ours, one commit puts them on the
main branch. Whatever interrupts this before, the main branch stays as it was, and the next call goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tunesmith.errors import StorageError, UsageError
from tunesmith.publish.hub.contents import PublishedFile, total_size
from tunesmith.publish.hub.repository import AGAIN, MAIN, Gate, HubRepository, differing

STAGING = "tunesmith-staging"
LARGE = 10 << 20
"""Bytes from which a file is uploaded in a separate commit on the staging branch, so that it is not sent again."""


@dataclass(frozen=True, slots=True)
class Access:
    """Who may read a repository.

    public: whether everybody may. A repository that exists stays public if it is.
    gate: whether conditions have to be accepted first, and who decides (auto: nobody; manual: the owner).
    """

    public: bool = False
    gate: Gate | None = None


def push(
    repository: HubRepository,
    files: Sequence[PublishedFile],
    access: Access,
    message: str,
    notice: Callable[[str], None],
    *,
    replace: bool = False,
) -> None:
    """Publish files so that the main branch has exactly these.

    message: of the commit.
    notice: reports each stage.
    replace: whether other files on the main branch are deleted.
    Raises UsageError for a repository with other files, StorageError if the hub fails or has other content.
    """
    private = repository.create(private=True)
    if access.gate is not None:
        repository.set_access(gate=access.gate, private=None)
    head = repository.head(MAIN)
    if head is None:
        raise StorageError("the repository has no branch main", where=repository.name, advice="create it on the hub")
    present = repository.hashes(head)
    surplus = sorted(present.keys() - {each.name for each in files})
    if surplus and not replace:
        raise UsageError(
            f"the repository has {len(surplus)} files that the directory does not have ({', '.join(surplus[:3])})",
            where=repository.name,
            advice="add --replace to delete them",
        )
    if differing(files, present) or surplus:
        _stage(repository, files, head, notice)
        notice("publishing: one commit on the branch main")
        try:
            repository.commit(MAIN, head, files, surplus, message)
        except StorageError:  # the answer may be lost where the commit is not
            if differing(files, repository.hashes(MAIN)):
                raise
        check_published(repository, files, MAIN)
    if repository.head(STAGING) is not None:
        repository.delete_branch(STAGING)
    if access.public and private:
        repository.set_access(gate=None, private=False)
        private = False
    seen = "private: only you can see it; add --public to change that" if private else "public"
    notice(f"{repository.name} has these {len(files)} files ({total_size(files):,} bytes), and is {seen}")


def _stage(repository: HubRepository, files: Sequence[PublishedFile], head: str, notice: Callable[[str], None]) -> None:
    """Upload all files to the staging branch and compare their hashes."""
    tip = repository.head(STAGING)
    if tip is None:
        repository.create_branch(STAGING, head)
        tip = head
    missing = differing(files, repository.hashes(tip))
    large = [each for each in missing if each.size >= LARGE]
    groups = [*([each] for each in large), [each for each in missing if each.size < LARGE]]
    for number, group in enumerate((each for each in groups if each), start=1):
        what = group[0].name if len(group) == 1 else f"{len(group)} small files"
        notice(f"uploading {number} of {len(groups)}: {what} ({total_size(group):,} bytes)")
        repository.commit(STAGING, tip, group, (), f"Upload {what}")
        moved = repository.head(STAGING)
        if moved is None:
            raise StorageError("the staging branch is gone", where=repository.name, advice=AGAIN)
        tip = moved
    check_published(repository, files, STAGING)


def check_published(repository: HubRepository, files: Sequence[PublishedFile], revision: str) -> None:
    """Compare hashes. Raises StorageError for the first file that the hub has with other content, or does not have."""
    wrong = differing(files, repository.hashes(revision))
    if wrong:
        raise StorageError(
            f"{wrong[0].name} is not the same on the hub, branch {revision}",
            where=repository.name,
            advice="it was damaged on the way, or changed on this machine meanwhile; run the same command again",
        )
