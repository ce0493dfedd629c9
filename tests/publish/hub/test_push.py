"""Publishing on the hub is all or nothing, whatever fails, and the next call completes it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.publish.hub.faults import CONTENT, NAME, OLD, publish, without_waiting, write_files
from tests.publish.hub.server import ATTRIBUTES, Hub, serve_hub
from tunesmith.errors import StorageError, TunesmithError, UsageError
from tunesmith.publish.hub import command
from tunesmith.publish.hub import push as module
from tunesmith.publish.hub.contents import PublishedFile
from tunesmith.publish.hub.push import STAGING, Access


@pytest.fixture(autouse=True)
def waited() -> Iterator[list[float]]:
    with without_waiting() as found:
        yield found


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serve_hub() as found:
        yield found


@pytest.fixture
def files(tmp_path: Path) -> list[PublishedFile]:
    return write_files(tmp_path)


def test_every_file_is_published_in_one_commit_of_a_private_repository(hub: Hub, files: list[PublishedFile]) -> None:
    notices = publish(hub, files)
    assert hub.published(NAME) == CONTENT
    assert hub.repositories[NAME].private
    assert not hub.repositories[NAME].gated
    assert STAGING not in hub.repositories[NAME].branches
    assert sum(line.endswith("/commit/main") for line in hub.log) == 1
    assert "private" in notices[-1]
    assert sum(line.startswith("PUT /upload") for line in hub.log) == 2, "large files are sent once"


def test_publishing_the_same_files_again_changes_nothing(hub: Hub, files: list[PublishedFile]) -> None:
    publish(hub, files)
    before, hub.log = hub.repositories[NAME].branches["main"], []
    publish(hub, files)
    assert hub.repositories[NAME].branches["main"] == before
    assert not any("commit" in line or "upload" in line for line in hub.log)


def test_the_gate_is_set_before_any_file_is_there_and_a_repository_is_public_only_at_the_end(
    hub: Hub, files: list[PublishedFile]
) -> None:
    publish(hub, files, Access(public=True, gate="manual"))
    found = hub.repositories[NAME]
    assert found.gated == "manual"
    assert not found.private
    settings = [number for number, line in enumerate(hub.log) if line.endswith("/settings")]
    commits = [number for number, line in enumerate(hub.log) if "/commit/" in line]
    assert len(settings) == 2, "a repository is made private, and public by a later request"
    assert settings[0] < min(commits)
    assert settings[1] > max(commits)


def test_other_files_of_the_repository_are_deleted_only_on_request(hub: Hub, files: list[PublishedFile]) -> None:
    hub.add(NAME, OLD)
    with pytest.raises(UsageError, match=r"1 files that the directory does not have \(model.safetensors\).*--replace"):
        publish(hub, files, replace=False)
    assert hub.published(NAME) == OLD
    publish(hub, files)
    assert hub.published(NAME) == CONTENT
    assert hub.repositories[NAME].branches["main"][1][".gitattributes"] == (ATTRIBUTES, False)


def test_a_damaged_upload_is_noticed_on_the_staging_branch(hub: Hub, files: list[PublishedFile]) -> None:
    """A hub that stores other bytes under the hash that was announced."""
    publish(hub, files)
    wanted = next(each for each in files if each.name.startswith("model-00001"))
    hub.large[wanted.sha256] = b"x" * wanted.size
    del hub.repositories[NAME]
    with pytest.raises(
        StorageError, match=r"model-00001-of-00002\.safetensors is not the same on the hub, branch tunesm"
    ):
        publish(hub, files)
    assert hub.published(NAME) == {}


def test_a_file_that_changes_meanwhile_is_not_published(hub: Hub, files: list[PublishedFile]) -> None:
    files[0].path.write_bytes(b"changed after its hash was computed")
    with pytest.raises(StorageError, match=r"README\.md: this file was changed after its hash was computed"):
        publish(hub, files)
    assert hub.published(NAME) == {}


@pytest.mark.parametrize("number", [0, 3])
@pytest.mark.parametrize("content", [b"another one of any size", None])
def test_a_file_that_changes_between_the_two_commits_is_not_published(
    hub: Hub, files: list[PublishedFile], monkeypatch: pytest.MonkeyPatch, number: int, content: bytes | None
) -> None:
    """Both a small and a large file, that is written again or deleted."""
    stage, path = module._stage, files[number].path

    def stage_and_change(*arguments: object) -> None:
        stage(*arguments)  # type: ignore[arg-type]
        path.unlink() if content is None else path.write_bytes(content)

    monkeypatch.setattr(module, "_stage", stage_and_change)
    with pytest.raises(StorageError, match=rf"{path.name}: (this file was changed|the file cannot be read)"):
        publish(hub, files)
    assert hub.published(NAME) == {}


def test_a_file_that_is_deleted_while_it_is_sent_is_named(hub: Hub, files: list[PublishedFile]) -> None:
    def delete() -> None:
        if any("/preupload/" in line for line in hub.log):
            files[3].path.unlink(missing_ok=True)

    hub.seen = delete
    with pytest.raises(StorageError, match=rf"{files[3].path.name}: the file cannot be read: No such file"):
        publish(hub, files)


@pytest.mark.parametrize("token", ["a secret\n", "a\tsecret", "a\x1bsecret"])
def test_a_token_that_cannot_be_sent_is_not_printed(hub: Hub, files: list[PublishedFile], token: str) -> None:
    with pytest.raises(TunesmithError) as caught:
        publish(hub, files, token=token)
    assert "secret" not in str(caught.value)
    with pytest.raises(UsageError, match=r"HF_TOKEN: the token of the hub has characters.*hf auth login") as refused:
        command._check_token(token)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("status", [302, 307, 308])
def test_the_token_is_not_sent_to_another_server(hub: Hub, files: list[PublishedFile], status: int) -> None:
    with serve_hub() as other:

        def answer(method: str, path: str, body: bytes, *, damaged: bool) -> tuple[int, dict[str, str], object]:
            return status, {"Location": f"{other.url}{path}"}, {}

        hub.answer = answer  # type: ignore[method-assign]
        with pytest.raises(UsageError, match=rf"sends requests on to {other.url}, which does not get the token"):
            publish(hub, files)
        assert other.log, "it was asked, and refused what has no token"
        assert not other.repositories


@pytest.mark.parametrize("target", ["hub:a", "hub:datasets/a", "hub:a/b/c", "hub:", "me/a", "hub:me/ä", "hub:me/a\n"])
def test_what_is_no_name_of_a_model_is_refused_before_anything_is_sent(target: str) -> None:
    with pytest.raises(UsageError, match="is no name of the hub; write hub:OWNER/MODEL"):
        command._repository_name(target)
    assert command._repository_name("hub:me/a.b-c_1") == "me/a.b-c_1"


def test_a_commit_of_somebody_else_meanwhile_is_not_overwritten(
    hub: Hub, files: list[PublishedFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = module._stage

    def stage_slowly(*arguments: object) -> None:
        stage(*arguments)  # type: ignore[arg-type]
        hub.add(NAME, OLD)

    monkeypatch.setattr(module, "_stage", stage_slowly)
    with pytest.raises(StorageError, match="changed by somebody else"):
        publish(hub, files)
    assert hub.published(NAME) == OLD


def test_a_wrong_token_is_said_with_how_to_log_in(hub: Hub, files: list[PublishedFile]) -> None:
    with pytest.raises(UsageError, match=r"refuses access.*hf auth login"):
        publish(hub, files, token="another")
    assert not hub.repositories
