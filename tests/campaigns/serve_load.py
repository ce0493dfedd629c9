"""Many clients at once against `tunesmith serve` in a process of its kind: speed, mixed replies, memory.

    python -m tests.campaigns.serve_load [--model DIR] [--requests 10000] [--minutes 30]

speed: tokens a second of 64 streams at once, against one stream at a time.
canaries: every request has a number in its prompt, which the answer must repeat, and a seed, whose reply must be that
    of the request alone; one in ten closes its connection early.
memory: the resident memory of the server under mixed load, once a minute.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.apps.sampled_models import write_causal

STREAMS = 64
CHECKED_ALONE = 300
AT_ONCE = 96


@contextmanager
def served(model: str) -> Iterator[tuple[int, int]]:
    """(port, process id) of a server process."""
    with tempfile.TemporaryDirectory() as data:
        words = [sys.executable, "-m", "tunesmith.cli", "serve", f"model={model}", "--port", "0", "--data", data]
        with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
            try:
                assert process.stderr is not None
                started = next(line for line in process.stderr if '"address"' in line)
                yield int(json.loads(started)["fields"]["address"].rpartition(":")[2]), process.pid
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(300)


async def ask(port: int, path: str, read: float | None = None, **fields: Any) -> bytes:
    """The bytes of an answer; with ``read`` only so many seconds of them, then the connection is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        body = json.dumps({"model": "model", **fields}).encode()
        head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nconnection: close\r\n"
        writer.write(head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body)
        if read is not None:
            await asyncio.sleep(read)
            return b""
        return await asyncio.wait_for(reader.read(), 300)
    finally:
        writer.close()


def body_of(answer: bytes) -> Any:
    """The JSON object of a whole answer."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), answer[:300]
    return json.loads(body)


async def measure_speed(port: int, tokens: int = 100) -> tuple[float, float]:
    """Tokens a second of one stream at a time, and of 64 at once."""

    async def one(number: int) -> int:
        fields = {"max_tokens": tokens, "min_tokens": tokens, "temperature": 1, "seed": number, "stream": True}
        usage = {"stream_options": {"include_usage": True}}
        answer = await ask(port, "/v1/completions", prompt=f"Number {number}", **fields, **usage)
        return int(answer.rsplit(b'"completion_tokens":', 1)[1].split(b",")[0])

    await asyncio.gather(*(one(number) for number in range(8)))
    begin = time.perf_counter()
    alone = sum([await one(number) for number in range(8)]) / (time.perf_counter() - begin)
    begin = time.perf_counter()
    together = sum(await asyncio.gather(*map(one, range(STREAMS)))) / (time.perf_counter() - begin)
    return alone, together


async def send_canaries(port: int, count: int, draw: random.Random) -> Counter[str]:
    """How many requests had which outcome; ``mixed`` and ``lost`` must not occur."""
    outcomes, texts = Counter[str](), dict[int, str]()
    places = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        prompt = f"<{number:06d}>"
        fields = {"prompt": prompt, "echo": True, "max_tokens": 12, "temperature": 1, "seed": number}
        early = draw.uniform(0, 0.2) if draw.random() < 0.1 else None
        async with places:
            answer = await ask(port, "/v1/completions", early, **fields)
        if early is not None:
            outcomes["closed early"] += 1
            return
        text = body_of(answer)["choices"][0]["text"] if answer else ""
        outcomes["right" if text.startswith(prompt) and text.count("<0") == 1 else "mixed" if answer else "lost"] += 1
        texts[number] = text

    await asyncio.gather(*map(one, range(count)))
    for number in draw.sample(sorted(texts), min(CHECKED_ALONE, len(texts))):
        fields = {"prompt": f"<{number:06d}>", "echo": True, "max_tokens": 12, "temperature": 1, "seed": number}
        alone = body_of(await ask(port, "/v1/completions", **fields))["choices"][0]["text"]
        outcomes["same as alone" if alone == texts[number] else "mixed"] += 1
    return outcomes


async def watch_memory(port: int, process: int, minutes: float, draw: random.Random) -> list[float]:
    """MB of resident memory of the server, once a minute under mixed load."""
    found, end = [], time.monotonic() + 60 * minutes

    async def client() -> None:
        while time.monotonic() < end:
            size = draw.choice((1, 5, 20, 60))
            fields = {"max_tokens": size, "temperature": 1, "stream": draw.random() < 0.5, "n": draw.choice((1, 1, 4))}
            early = draw.uniform(0, 0.3) if draw.random() < 0.2 else None
            prompt = "word " * draw.randint(1, 10) + str(draw.random())
            await ask(port, "/v1/completions", early, prompt=prompt, logprobs=draw.choice((None, 3)), **fields)

    async def watch() -> None:
        while time.monotonic() < end:
            await asyncio.sleep(min(60, 6 * minutes))
            pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
            found.append(pages * os.sysconf("SC_PAGE_SIZE") / 2**20)
            print(f"memory: {found[-1]:.1f} MB", flush=True)

    await asyncio.gather(watch(), *(client() for _ in range(16)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a run or model; by default a tiny random one")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        model = options.model or str(write_causal(root / "model", "chatml"))
        with served(model) as (port, process):
            alone, together = asyncio.run(measure_speed(port))
            print(f"speed: {alone:.0f} tokens/s alone, {together:.0f} with {STREAMS} streams, {together / alone:.1f}x")
            begin = time.perf_counter()
            outcomes = asyncio.run(send_canaries(port, options.requests, draw))
            print(f"canaries: {dict(outcomes)} in {time.perf_counter() - begin:.0f} s", flush=True)
            memory = asyncio.run(watch_memory(port, process, options.minutes, draw)) if options.minutes else []
    if outcomes["mixed"] or outcomes["lost"] or together < 8 * alone:
        raise SystemExit("a reply was mixed or lost, or 64 streams are less than 8 times as fast as one")
    if len(memory) > 2 and memory[-1] > 1.05 * memory[len(memory) // 3]:
        raise SystemExit("the memory of the server grows")


if __name__ == "__main__":
    main()
