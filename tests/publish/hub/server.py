"""A server that speaks the part of the Hugging Face Hub's HTTP API that publishing needs, and fails on request."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "a-token-that-may-write"
LARGE = 1000
"""Bytes from which a file is stored as a large one."""
ATTRIBUTES = b"*.safetensors filter=lfs\n"


def git_hash(content: bytes) -> str:
    """SHA-1 of a git blob."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass
class Fault:
    """What goes wrong.

    request: number of the request, from 0.
    kind: a status of HTTP; ``cut`` (nothing is done, and the answer breaks off); ``lost`` (it is done, and the answer
        breaks off); ``damaged`` (an uploaded body is stored with another byte); ``silent`` (there is no answer).
    lasting: whether all later requests fail in this way, too.
    """

    request: int
    kind: str | int
    lasting: bool = False


@dataclass
class Repository:
    """branches: name -> (commit, path -> (content, whether it is a large file))."""

    private: bool
    gated: str | bool = False
    branches: dict[str, tuple[str, dict[str, tuple[bytes, bool]]]] = field(default_factory=dict)


@dataclass
class Hub:
    """The state of the server.

    log: method and path of every request.
    seen: called after every request that was carried out, before its answer.
    ended: set when the server ends.
    """

    repositories: dict[str, Repository] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    fault: Fault | None = None
    seen: Callable[[], None] = lambda: None
    ended: Event = field(default_factory=Event)
    url: str = ""
    commits: int = 0
    lock: Lock = field(default_factory=Lock)

    def published(self, name: str) -> dict[str, bytes]:
        """What a user of the main branch gets."""
        if name not in self.repositories:
            return {}
        files = self.repositories[name].branches["main"][1]
        return {path: content for path, (content, _) in files.items() if path != ".gitattributes"}

    def add(self, name: str, files: dict[str, bytes], *, private: bool = True) -> None:
        """Create a repository with these files."""
        stored = {path: (content, len(content) >= LARGE) for path, content in files.items()}
        branch = (self.new_commit(), {**stored, ".gitattributes": (ATTRIBUTES, False)})
        self.repositories[name] = Repository(private, branches={"main": branch})

    def new_commit(self) -> str:
        self.commits += 1
        return f"{self.commits:040x}"

    def answer(self, method: str, path: str, body: bytes, *, damaged: bool) -> tuple[int, dict[str, str], Any]:
        """Status, headers and JSON of the answer to a request."""
        parts = [unquote(part) for part in urlsplit(path).path.strip("/").split("/")]
        if parts[0] == "upload":
            content = body[:-1] + bytes([body[-1] ^ 1]) if damaged else body
            self.large[hashlib.sha256(content).hexdigest()] = content
            return 200, {}, {}
        if parts[:2] == ["api", "validate-yaml"]:
            return 200, {}, {"errors": [], "warnings": []}
        if parts[:3] == ["api", "repos", "create"]:
            return self._create(json.loads(body))
        if parts[2:] and ".git" in parts[1]:
            return self._batch(json.loads(body))
        name = "/".join(parts[2:4])
        if name not in self.repositories:
            return 404, {"X-Error-Code": "RepoNotFound"}, {}
        return self._of_repository(name, method, parts[4:], body)

    def _create(self, wanted: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
        name = f"{wanted['organization']}/{wanted['name']}"
        if name in self.repositories:
            return 409, {}, {"error": "You already created this model repo", "url": f"{self.url}/{name}"}
        self.add(name, {}, private=wanted.get("visibility") == "private")
        return 200, {}, {"url": f"{self.url}/{name}"}

    def _batch(self, wanted: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
        objects = [
            each
            if each["oid"] in self.large
            else {**each, "actions": {"upload": {"href": f"{self.url}/upload/{each['oid']}"}}}
            for each in wanted["objects"]
        ]
        return 200, {}, {"transfer": "basic", "objects": objects}

    def _of_repository(self, name: str, method: str, parts: list[str], body: bytes) -> tuple[int, dict[str, str], Any]:
        found = self.repositories[name]
        if parts == ["settings"]:
            wanted = json.loads(body)
            found.gated = wanted.get("gated", found.gated)
            found.private = wanted.get("visibility", "private" if found.private else "public") == "private"
            return 200, {}, {}
        action, branch = parts[0] if parts else "revision", parts[1] if len(parts) > 1 else "main"
        if action == "branch" and method == "POST":
            start = json.loads(body)["startingPoint"]
            files = next(files for commit, files in found.branches.values() if commit == start)
            found.branches[branch] = (start, dict(files))
            return 200, {}, {}
        known = [each for each, (commit, _) in found.branches.items() if branch in (each, commit)]
        if not known:
            return 404, {"X-Error-Code": "RevisionNotFound"}, {}
        commit, files = found.branches[known[0]]
        if action == "branch":
            del found.branches[branch]
            return 200, {}, {}
        if action == "revision":
            return 200, {}, {"id": "x", "sha": commit, "private": found.private, "siblings": [], "tags": []}
        if action == "tree":
            return 200, {}, [_entry(path, *stored) for path, stored in files.items()]
        if action == "preupload":
            return 200, {}, {"files": [_mode(each) for each in json.loads(body)["files"]]}
        assert action == "commit", parts
        return self._commit(name, known[0], [json.loads(line) for line in body.splitlines()])

    def _commit(self, name: str, branch: str, lines: list[dict[str, Any]]) -> tuple[int, dict[str, str], Any]:
        found = self.repositories[name]
        commit, files = found.branches[branch]
        if lines[0]["value"].get("parentCommit", commit) != commit:
            return 412, {}, {"error": "A commit has happened since. Please refresh and try again."}
        new = dict(files)
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "deletedFile":
                del new[value["path"]]
            elif line["key"] == "file":
                new[value["path"]] = (base64.b64decode(value["content"]), False)
            elif value["oid"] not in self.large:
                return 400, {}, {"error": f"the content {value['oid']} was not uploaded"}
            else:
                new[value["path"]] = (self.large[value["oid"]], True)
        found.branches[branch] = (self.new_commit(), new)
        return 200, {}, {"commitUrl": f"{self.url}/{name}/commit/x", "commitOid": found.branches[branch][0]}


def _entry(path: str, content: bytes, is_large: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": git_hash(content)}
    if is_large:
        found["lfs"] = {"size": len(content), "oid": hashlib.sha256(content).hexdigest(), "pointerSize": 130}
    return found


def _mode(file: dict[str, Any]) -> dict[str, Any]:
    mode = "lfs" if file["size"] >= LARGE else "regular"
    return {"path": file["path"], "uploadMode": mode, "shouldIgnore": False}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # An answer is sent in one piece: the system would keep its second piece back until the first one is confirmed.
    wbufsize = -1
    disable_nagle_algorithm = True
    server: _Server

    def _handle(self) -> None:
        body = self._body()
        hub = self.server.hub
        with hub.lock:
            number = len(hub.log)
            hub.log.append(f"{self.command} {urlsplit(self.path).path}")
            fault = hub.fault
            failing = fault is not None and (fault.request == number or (fault.lasting and number > fault.request))
            kind = fault.kind if fault is not None and failing else None
            if isinstance(kind, int):
                self._reply(kind, {"Retry-After": "1"}, {"error": "planted"})
                return
            if self.headers.get("Authorization") != f"Bearer {TOKEN}" and not self.path.startswith("/upload"):
                self._reply(401, {"X-Error-Message": "Invalid credentials in Authorization header"}, {})
                return
            if kind == "cut":
                self._break_off()
                return
            if kind != "silent":
                status, headers, value = hub.answer(self.command, self.path, body, damaged=kind == "damaged")
                hub.seen()
        if kind == "silent":
            hub.ended.wait()
            return
        if kind == "lost":
            self._break_off()
        else:
            self._reply(status, headers, value)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _handle

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        pieces = []
        while size := int(self.rfile.readline(), 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def _reply(self, status: int, headers: dict[str, str], value: Any) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        for name, text in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(content)

    def _break_off(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b'{"half": ')
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is printed."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    hub: Hub


@contextmanager
def serve_hub() -> Iterator[Hub]:
    """A hub that answers while the block lasts."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.hub = Hub(url=f"http://127.0.0.1:{server.server_port}")
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.hub
    finally:
        server.hub.ended.set()
        server.shutdown()
        thread.join()
        server.server_close()
