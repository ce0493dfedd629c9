"""Requests as bytes, most of them malformed, and the answers that are right."""

from __future__ import annotations

import json
import random
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

GOOD = json.dumps({"model": "chatml", "messages": [{"role": "user", "content": "Say red."}], "max_tokens": 2}).encode()
CLOSED = 0
"""In the place of a status: the connection is closed without an answer."""


@dataclass(frozen=True, slots=True)
class RawCase:
    """One connection.

    name: what is wrong.
    parts: what is sent, piece by piece; the server may close the connection before the last one.
    wanted: the statuses that are right.
    """

    name: str
    parts: tuple[bytes, ...]
    wanted: tuple[int, ...]


def request(
    body: bytes = GOOD,
    *headers: bytes,
    method: bytes = b"POST",
    path: bytes = b"/v1/chat/completions",
    version: bytes = b"HTTP/1.1",
    length: bytes | None = b"",
    host: bytes | None = b"localhost",
    kind: bytes | None = b"application/json",
) -> bytes:
    """A request. length: b"" for the right one, None for no such header."""
    lines = [b"%s %s %s" % (method, path, version)]
    lines += [b"Host: " + host] if host is not None else []
    lines += [b"Content-Type: " + kind] if kind is not None else []
    lines += [] if length is None else [b"Content-Length: %s" % (length or b"%d" % len(body))]
    return b"\r\n".join([*lines, b"Connection: close", *headers]) + b"\r\n\r\n" + body


def chunked(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


CHUNKS = b"Transfer-Encoding: chunked"


def fixed_cases() -> Iterator[RawCase]:
    """One case of every kind."""

    def case(name: str, *parts: bytes, wanted: tuple[int, ...] = (400,)) -> RawCase:
        return RawCase(name, parts, wanted)

    yield case("a good request", request(), wanted=(200,))
    yield case("a good request in chunks", request(chunked(GOOD[:9], GOOD[9:]), CHUNKS, length=None), wanted=(200,))
    yield case("HTTP/1.0", request(version=b"HTTP/1.0"), wanted=(200,))
    yield case("two requests at once", request() + request(), wanted=(200,))
    yield case("byte by byte", *(request()[place : place + 1] for place in range(40)), request()[40:], wanted=(200,))
    yield case("Expect: 100-continue", request(b"", b"Expect: 100-continue", length=b"%d" % len(GOOD)), GOOD,
               wanted=(100,))  # fmt: skip
    yield case("chunks and a length", request(chunked(GOOD), CHUNKS, length=b"5"), wanted=(200, 400))
    yield case("two lengths", request(GOOD, b"Content-Length: 3"))
    yield case("a length that is no number", request(length=b"abc"))
    yield case("a negative length", request(length=b"-1"))
    yield case("a length with a sign", request(length=b"+5"))
    yield case("a huge length", request(b"", length=b"9" * 19), wanted=(413,))
    yield case("a length of 4,400 digits", request(b"", length=b"9" * 4400), wanted=(400, 413))
    yield case("100 MB are announced", request(b" " * 65_536, length=b"100000000"), wanted=(413,))
    yield case("a length that is too small", request(GOOD, length=b"9"), wanted=(400,))
    yield case("a chunk size that is no number", request(b"xyz\r\nabc\r\n0\r\n\r\n", CHUNKS, length=None),
               wanted=(400, CLOSED))  # fmt: skip
    yield case("a huge chunk size", request(b"f" * 17 + b"\r\n", CHUNKS, length=None), wanted=(400, 413, CLOSED))
    yield case("unknown encodings", request(GOOD, b"Transfer-Encoding: gzip", length=None), wanted=(400, 501))
    yield case("a compressed body", request(GOOD, b"Content-Encoding: gzip"), wanted=(415,))
    yield case("a form", request(b"a=b", kind=b"application/x-www-form-urlencoded"), wanted=(415,))
    yield case("no content type", request(kind=None), wanted=(415,))
    yield case("no host", request(host=None))
    yield case("two hosts", request(GOOD, b"Host: localhost"))
    yield case("another host", request(host=b"evil.com"), wanted=(421,))
    yield case("an absolute URL of another host", request(path=b"http://evil.com/v1/models"), wanted=(404, 421))
    yield case("no HTTP", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
    yield case("an unknown version", request(version=b"HTTP/9.9"))
    yield case("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    yield case("an unknown method", request(method=b"BREW"), wanted=(405,))
    yield case("a method of 2,000 characters", request(method=b"A" * 2000), wanted=(400, 405))
    yield case("TRACE", request(b"", method=b"TRACE"), wanted=(405, 415))
    yield case("CONNECT", request(b"", method=b"CONNECT", path=b"evil.com:80"), wanted=(400, 404, 415))
    yield case("a space before the colon", request(GOOD, b"X-A : 1"))
    yield case("a folded header", request(GOOD, b"X-A: 1", b" 2"), wanted=(200, 400))
    yield case("a NUL in a header", request(GOOD, b"X-A: \x00"))
    yield case("a bare line feed", request(GOOD, b"X-A: 1\nX-B: 2"), wanted=(200, 400))
    yield case("a header of 20,000 bytes", request(GOOD, b"X-A: " + b"a" * 20_000), wanted=(400, 431))
    yield case("a header of 100,000 bytes", request(GOOD, b"X-A: " + b"a" * 100_000), wanted=(400, 431, CLOSED))
    yield case("10,000 headers", request(GOOD, *(b"X-%d: 1" % number for number in range(10_000))),
               wanted=(400, 431, CLOSED))  # fmt: skip
    yield case("100 headers", request(GOOD, *(b"X-%d: 1" % number for number in range(100))), wanted=(431,))
    yield case("a URL of 3,000 bytes", request(path=b"/" + b"a" * 3000), wanted=(414,))
    yield case("dots in the URL", request(b"", method=b"GET", path=b"/v1/../../etc/passwd", kind=None), wanted=(404,))
    yield case("encoded dots", request(b"", method=b"GET", path=b"/%2e%2e/%2e%2e/etc/passwd", kind=None), wanted=(404,))
    yield case("an encoded NUL", request(b"", method=b"GET", path=b"/v1/models/%00", kind=None), wanted=(404,))
    yield case("half a character in the URL", request(b"", method=b"GET", path=b"/v1/models/%ed%a0%80", kind=None),
               wanted=(404,))  # fmt: skip
    yield case("an upgrade", request(b"", b"Upgrade: websocket", b"Connection: Upgrade", method=b"GET", kind=None),
               wanted=(405, 404, 400))  # fmt: skip
    for name, body in BODIES.items():
        yield case(name, request(body))
    yield case("a body that is cut", request(GOOD[:20], length=b"%d" % len(GOOD)), wanted=(CLOSED,))
    yield case("headers that are cut", request()[:60], wanted=(CLOSED,))
    yield case("nothing", wanted=(CLOSED,))


BODIES = {
    "an empty body": b"",
    "bytes that are no UTF-8": b'{"model": "\xff\xfe"}',
    "UTF-16": GOOD.decode().encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf" + GOOD,
    "10,000 levels": b"[" * 10_000,
    "10,000 objects": b'{"a":' * 10_000,
    "10^5 keys": b"{" + b",".join(b'"%d":1' % number for number in range(60_000)) + b"}",
    "a key twice": GOOD[:-1] + b', "model": "t5"}',
    "half of the body": GOOD[:40],
    "text after the body": GOOD + b" {}",
    "NaN": GOOD[:-1] + b', "temperature": NaN}',
    "a number of 5,000 digits": GOOD[:-1] + b', "seed": ' + b"1" * 5000 + b"}",
    "1e999": GOOD[:-1] + b', "temperature": 1e999}',
    "half a character": GOOD.replace(b"Say", b"\\ud800"),
    "a control character": GOOD.replace(b"Say", b"\x01"),
    "a list": b"[]",
    "an unknown field": GOOD[:-1] + b', "__proto__": {}}',
}


def random_cases(count: int, draw: random.Random) -> Iterator[RawCase]:
    """Good requests with random damage: any answer that is not 5xx is right, and so is none."""
    whole = request()
    for number in range(count):
        data = bytearray(whole)
        for _ in range(draw.randint(1, 4)):
            place = draw.randrange(len(data))
            kind = draw.randrange(4)
            if kind == 0:
                data[place] = draw.randrange(256)
            elif kind == 1:
                del data[place : place + draw.randint(1, 30)]
            elif kind == 2:
                data[place:place] = bytes(draw.randrange(256) for _ in range(draw.randint(1, 40)))
            else:
                data[place:place] = data[place : place + draw.randint(1, 60)]
        cut = draw.randrange(len(data) + 1) if draw.random() < 0.2 else len(data)
        wanted = (CLOSED, 100, 200, 400, 404, 405, 408, 413, 414, 415, 421, 431)
        yield RawCase(f"damage {number}", (bytes(data[:cut]),), wanted)


def send(port: int, case: RawCase, patience: float = 5.0) -> tuple[int, bytes]:
    """(status, everything that was received); the write side is closed after the last piece.

    Raises TimeoutError if the connection is neither answered nor closed.
    """
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=patience) as connection:
        try:
            for part in case.parts:
                connection.sendall(part)
                if len(case.parts) > 1:
                    time.sleep(0.001)
            if CLOSED in case.wanted:
                connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(65_536):
                received += part
        except (ConnectionResetError, BrokenPipeError):
            pass
    words = received.split(b" ", 2)
    return (int(words[1]) if received.startswith(b"HTTP/1.") else CLOSED), received
