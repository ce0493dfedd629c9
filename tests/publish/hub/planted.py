"""Fifty different texts that must not be published, and putting them into the files of an export."""

from __future__ import annotations

import json
import random
import string
from collections.abc import Sequence
from pathlib import Path


def made_up(characters: str, length: int, seed: int = 0) -> str:
    """Text that has the form of a key."""
    return "".join(random.Random(f"{characters}{length}{seed}").choices(characters, k=length))


LOWER, UPPER = string.ascii_lowercase + string.digits, string.ascii_uppercase + string.digits
MIXED, HEX = string.ascii_letters + string.digits, string.hexdigits[:16]
# Written in two parts, so that scanners of repositories do not take these for keys.
KEYS = [
    "hf" + "_" + made_up(MIXED, 34),
    "hf" + "_" + made_up(MIXED, 37),
    "api_org" + "_" + made_up(MIXED, 34),
    "sk" + "-" + made_up(MIXED, 48),
    "sk" + "-proj-" + made_up(MIXED, 60),
    "sk" + "-svcacct-" + made_up(MIXED + "_-", 70),
    "sk" + "-ant-api03-" + made_up(MIXED + "_-", 90),
    "sk" + "-or-v1-" + made_up(HEX, 64),
    "AKIA" + made_up(UPPER, 16),
    "ASIA" + made_up(UPPER, 16),
    "AIza" + made_up(MIXED + "_-", 35),
    "ya29" + "." + made_up(MIXED, 60),
    "GOCSPX" + "-" + made_up(MIXED, 28),
    "ghp" + "_" + made_up(MIXED, 36),
    "gho" + "_" + made_up(MIXED, 36),
    "ghs" + "_" + made_up(MIXED, 36),
    "github_pat" + "_" + made_up(MIXED, 22) + "_" + made_up(MIXED, 59),
    "glpat" + "-" + made_up(MIXED, 20),
    "xoxb" + "-" + "123456789012-123456789012-" + made_up(MIXED, 24),
    "xoxp" + "-" + "123456789012-" + made_up(HEX, 32),
    "https://hooks.slack.com/services/T00000000/B00000000/" + made_up(MIXED, 24),
    "https://discord.com/api/webhooks/123456789012345678/" + made_up(MIXED, 68),
    "M" + made_up(MIXED, 23) + "." + made_up(MIXED, 6) + "." + made_up(MIXED, 27),
    "sk" + "_live_" + made_up(MIXED, 24),
    "rk" + "_test_" + made_up(MIXED, 24),
    "sq0csp" + "-" + made_up(MIXED, 43),
    "npm" + "_" + made_up(MIXED, 36),
    "pypi" + "-AgEIcHlwaS5vcmc" + made_up(MIXED, 100),
    "SG" + "." + made_up(MIXED, 22) + "." + made_up(MIXED, 43),
    "AC" + made_up(HEX, 32),
    "key" + "-" + made_up(HEX, 32),
    "123456789" + ":AA" + made_up(MIXED, 33),
    "AccountKey=" + made_up(MIXED, 86) + "==",
    "r8" + "_" + made_up(MIXED, 37),
    "gsk" + "_" + made_up(MIXED, 52),
    "xai" + "-" + made_up(MIXED, 80),
    "eyJ" + made_up(MIXED, 30) + ".eyJ" + made_up(MIXED, 80) + "." + made_up(MIXED, 43),
    "-----BEGIN " + "RSA PRIVATE KEY-----",
    "-----BEGIN " + "OPENSSH PRIVATE KEY-----",
    "-----BEGIN " + "PGP PRIVATE KEY BLOCK-----",
    "Authorization: Bearer " + made_up(MIXED, 40),
    "postgres://trainer:" + "hunter22@db.host.net/runs",
    "https://user:" + made_up(MIXED, 20) + "@git.host.net/model.git",
    "password" + " = " + "correct-horse-7",
    '"api_key": "' + made_up(LOWER, 32) + '"',
    "client_secret" + ": " + made_up(MIXED, 30),
]
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
    "/root" + "/data/dolly.jsonl",
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
SECRETS = [*KEYS, *ADDRESSES, *HOMES, *HOSTS]
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
