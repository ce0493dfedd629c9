"""Fifty different texts that must not be published, and putting them into the files of an export."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tests.publish.hub.test_findings import SECRETS

ADDRESSES = [
    "jane.doe@company.co.uk",
    "j.doe+models@mail.university.edu",
    "trainer_7@lab.institute.org",
    "Maria-Luisa@firma.de",
    "ops@eu.cloud.host.io",
    "x@y.ai",
]
HOMES = [
    "/home/jdoe/models/base",
    "/home/j.doe-2/faq.csv",
    "/Users/jdoe/Library",
    "/root/data/dolly.jsonl",
    "/export/home/trainer/runs",
    "C:\\Users\\jdoe\\data",
]
HOSTS = [
    "gpu-07.cluster.internal",
    "nas.lan",
    "build-3.corp",
    "wiki.team.intranet",
    "10.20.30.40",
    "192.168.1.17",
    "172.16.0.9",
]
KEYS = [each for each in SECRETS if each not in (*ADDRESSES, *HOMES, *HOSTS)]
PLANTED: Sequence[str] = [*KEYS[:31], *ADDRESSES, *HOMES, *HOSTS]
FILES = ("README.md", "recipe.yaml", "run-manifest.json", "tokenizer.json", "tokenizer_config.json", "tunesmith.json")


def plant(export: Path, number: int) -> str:
    """Put one of the texts into one of the files, which stays valid. Returns the name of the file."""
    secret, name = PLANTED[number], FILES[number % len(FILES)]
    path = export / name
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        content = json.loads(text)
        content.setdefault("notes", []).append(f"from {secret} on")
        path.write_text(json.dumps(content, ensure_ascii=False, indent=2), encoding="utf-8")
    elif path.suffix == ".yaml":
        path.write_text(f"{text}# see {secret}\n", encoding="utf-8")
    else:
        path.write_text(f"{text}\nSee `{secret}`.\n", encoding="utf-8")
    return name
