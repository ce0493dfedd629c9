"""The chat on a disk that becomes full and is freed, and a start on a read-only disk: clear errors, and nothing lost.

    python -m tests.campaigns.serve_disk

The disk is a tmpfs of 3 MB, so this needs Linux and root.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from tests.apps.sampled_models import write_causal
from tests.campaigns.serve_kills import Acknowledged, find_losses
from tests.campaigns.server_process import ChatServer
from tunesmith.serve.conversations.records import new_id

SIZE = "3m"


@contextlib.contextmanager
def mounted(place: Path) -> Iterator[None]:
    """A small disk at a place."""
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


class Writer:
    """Writes to one conversation, with and without replies. done: what was acknowledged."""

    def __init__(self, http: httpx.AsyncClient, done: Acknowledged) -> None:
        self.http, self.done, self.home, self.last = http, done, new_id(), ""

    async def begin(self) -> None:
        (await self.http.post("/api/conversations", json={"id": self.home})).raise_for_status()

    async def send(self, text: str, reply: bool = False) -> httpx.Response:
        """The answer to one message; its replies have ended."""
        name = new_id()
        answers = {"models": ["model"], "sampling": {"max_new_tokens": 16}} if reply else None
        body: dict[str, Any] = {"id": name, "parent": self.last or None, "text": text, "answers": answers}
        answer = await self.http.post(f"/api/conversations/{self.home}/send", json=body)
        if answer.status_code == 200:
            self.done.texts[name] = text
            self.last = answer.json()["messages"][-1]["id"]
            while reply and (await self.message(self.last))["state"] == "writing":
                await asyncio.sleep(0.05)
        return answer

    async def message(self, name: str) -> Any:
        found = (await self.http.get(f"/api/conversations/{self.home}")).raise_for_status().json()["messages"]
        return next(message for message in found if message["id"] == name)


async def fill_and_free(address: str, disk: Path, done: Acknowledged) -> None:
    """Write until the disk is full, then free it and write again."""
    async with httpx.AsyncClient(base_url=address, timeout=60) as http:
        writer = Writer(http, done)
        await writer.begin()
        await writer.send("hello", reply=True)
        filler = disk / "filler"
        filler.write_bytes(b"x" * 1_500_000)
        while (answer := await writer.send("word " * 2000)).status_code == 200:
            pass
        print(f"full after {len(done.texts)} messages: {answer.status_code} {answer.json()['error']['message']}")
        expect(answer.status_code == 507, "a full disk is not reported")
        expect((await writer.message(writer.last))["id"] == writer.last, "a full disk cannot be read")
        filler.unlink()
        for text in ("after", "and again"):
            (await writer.send(text, reply=True)).raise_for_status()
        print("freed: messages and replies are stored again")


def expect(holds: bool, what: str) -> None:
    if not holds:
        raise SystemExit(what)


def main() -> None:
    if os.geteuid() != 0 or sys.platform != "linux":
        raise SystemExit("this needs Linux and root, to mount a small disk")
    done = Acknowledged()
    with tempfile.TemporaryDirectory() as directory:
        root, disk = Path(directory), Path(directory) / "disk"
        model = write_causal(root / "model", "chatml")
        with mounted(disk):
            server = ChatServer([f"model={model}", "--data", str(disk)], root / "log")
            server.start()
            try:
                asyncio.run(fill_and_free(server.address, disk, done))
            except BaseException:
                print(server.log.read_text())
                raise
            finally:
                server.end()
            subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
            command = [sys.executable, "-m", "tunesmith.cli", "serve", f"model={model}", "--data", str(disk)]
            started = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
            print(f"started on a read-only disk: exit {started.returncode}, {started.stderr.strip()}")
            expect(started.returncode == 74 and "Traceback" not in started.stderr, "a start is not refused clearly")
            subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
            losses = find_losses(disk, done)
        print("".join(f"  {line}\n" for line in server.log.read_text().splitlines() if "conversations" in line), end="")
    print(f"{len(done.texts)} messages checked, {len(losses)} lost")
    if losses:
        raise SystemExit("\n".join(losses[:20]))


if __name__ == "__main__":
    main()
