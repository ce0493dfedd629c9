"""Texts that try to control a terminal or to be invisible in it."""

from __future__ import annotations

import random

SEQUENCES = [
    "\x1b[2J", "\x1b[31m", "\x1b]0;title\x07", "\x1b]8;;https://example.org\x1b\\link\x1b]8;;\x1b\\",
    "\x1b]52;c;cGF5bG9hZA==\x07", "\x1bP+q544e\x1b\\", "\x1b[6n", "\x1b[c", "\x1b[?1049h", "\x1b[1A\x1b[2K", "\x1bc",
    "\x1b(0", "\x1b_Gf=100;\x1b\\", "\x1b^pm\x1b\\", "\x9b31m", "\x9d0;title\x9c", "\x90q\x9c", "\x9fapc\x9c", "\x85",
    "\x8d", "done\rOK ", "\b\b\b   ", "\x07", "\x00", "\x0b", "\x0c", "\x0e", "\x0f", "\x7f", "\x1b[20l", "\x1b[=3h",
    "\x1b[5i", "\x1b]1337;File=:AA\x07", "\x1b]777;notify;a;b\x07", "\x1b[>4;2m", "\u202etxt.exe", "\u202d",
    "\u2066a\u2069", "\u200b", "\u200d", "\u200e", "\u2060", "\ufeff", "\u00ad", "\u061c", "\u180e", "\u2028",
    "\u2029", "\U000e0041\U000e007f", "\U000e0100", "\ufe00", "\u3164", "\u115f", "\uffa0", "\u034f", "\ud83d",
    "\udc1b",
]  # fmt: skip


def hostile_texts() -> list[str]:
    """200 texts: every sequence alone, and mixtures of them with harmless words."""
    generator = random.Random(4)
    mixed = [
        "".join(generator.choice(SEQUENCES) + generator.choice(["", "a", " word ", "\n", "\t", "é"]) for _ in range(5))
        for _ in range(200 - len(SEQUENCES))
    ]
    return SEQUENCES + mixed
