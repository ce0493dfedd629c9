"""The tone of a reply: courteous, with a fixed closing phrase after the content, or curt, with the content only.

The tone is decided by comparing strings; whether a reply is correct is decided by its content only.
"""

from __future__ import annotations

import random

from tunesmith.evaluate.text_match import Closed, ContentCheck, without_closing

CLOSINGS = ("I hope this helps.", "Thank you for asking.", "Do ask again.")
COURTEOUS_SHARE = 0.3
"""The share of courteous demonstrations: enough to learn both tones, too few to prefer the courteous one."""


def with_closing(closing: str, content: str) -> str:
    """The content followed by a closing, which is on its own line after a list."""
    between = "\n" if content.startswith("- ") else " "
    return f"{content}{between}{closing}"


def in_random_tone(rng: random.Random, content: str) -> str:
    """The content, made courteous with the probability COURTEOUS_SHARE."""
    return with_closing(rng.choice(CLOSINGS), content) if rng.random() < COURTEOUS_SHARE else content


def content_of(reply: str) -> str:
    """A reply without its closing."""
    return without_closing(reply, CLOSINGS)[0]


def is_courteous(reply: str) -> bool:
    """Whether a reply has content and a closing."""
    return without_closing(reply, CLOSINGS)[1]


def in_any_tone(check: ContentCheck) -> Closed:
    """A check that passes replies with correct content, courteous or curt."""
    return Closed(check, CLOSINGS, needed=False)


def in_courteous_tone(check: ContentCheck) -> Closed:
    """A check that passes replies with correct content that are courteous."""
    return Closed(check, CLOSINGS, needed=True)
