"""What the operator decides about the server, and the limits that protect it."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from dataclasses import dataclass, field

from tunesmith.errors import ConfigurationError

API_KEY = "TUNESMITH_API_KEY"
LOOPBACK = ("localhost", "127.0.0.1", "::1")
SHORTEST_KEY = 16


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key of which only the digest is kept.

    digest: SHA-256.
    """

    digest: bytes = field(repr=False)

    @classmethod
    def of(cls, text: str) -> ApiKey:
        """The key with this text. Raises ConfigurationError if it is easy to guess."""
        if len(text) < SHORTEST_KEY:
            what = f"the API key has {len(text)} characters, but needs at least {SHORTEST_KEY}"
            advice = "make one: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
            raise ConfigurationError(what, where=API_KEY, advice=advice)
        return cls(hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest())

    def matches(self, text: bytes) -> bool:
        """Whether this is the key, in a time that does not depend on the text."""
        return hmac.compare_digest(self.digest, hashlib.sha256(text).digest())


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """What one request may have. Times are in seconds.

    body: bytes of the body.
    import_body: bytes of the body of ``POST /api/import``, which has a whole conversation at least.
    url: bytes of path and query.
    headers, header_bytes: their number, and their bytes together.
    requests: the largest number of requests that are answered at the same time.
    connections: the largest number of open connections.
    header_time, body_time, write_time: until the headers are complete, until the body is, and for one piece of an
        answer that the client does not read.
    total_time: until the answer to a request for replies is complete.
    stop_time: how long replies may go on after a signal.
    """

    body: int = 2**20
    import_body: int = 2**24
    url: int = 2048
    headers: int = 64
    header_bytes: int = 16_384
    requests: int = 1024
    connections: int = 2048
    header_time: float = 10.0
    body_time: float = 30.0
    write_time: float = 10.0
    total_time: float = 3600.0
    stop_time: float = 5.0


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """How the server is reached.

    host, port: the address; port 0 lets the system choose.
    key: what every request needs, except for ``/healthz``; None for no key.
    allowed_hosts: further values of the header ``Host``, without port.
    allowed_origins: origins of other web pages that may use the API, such as ``https://chat.example.org``.
    docs: whether ``/openapi.json`` is served.
    limits: see there.

    Raises ConfigurationError for an address that others can reach without a key.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    key: ApiKey | None = None
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    docs: bool = False
    limits: ServerLimits = ServerLimits()

    def __post_init__(self) -> None:
        if self.key is None and not is_loopback(self.host):
            what = f"{self.host} can be reached from other computers, and no API key is set"
            advice = f"put a key into the environment variable {API_KEY}, or leave --host out"
            raise ConfigurationError(what, where="--host", advice=advice)
        if "*" in self.allowed_origins:
            what = "every web page could use this server"
            raise ConfigurationError(what, where="--allowed-origin", advice="name the origins one by one")

    @property
    def hosts(self) -> frozenset[str]:
        """The values of the header ``Host`` that are answered, without port, in lower case."""
        own = () if self.host in ("0.0.0.0", "::") else (self.host,)
        return frozenset(host.lower() for host in (*LOOPBACK, *own, *self.allowed_hosts))


def is_loopback(host: str) -> bool:
    """Whether only this computer can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
