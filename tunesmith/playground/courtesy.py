"""The tone of a reply: courteous, with a set phrase after the content, or curt, the content alone.

Which tone a reply has is a question of letters, so it is counted and not judged; what is right is asked of the content.
"""

from __future__ import annotations

import random

from tunesmith.evaluate.text_match import Closed, ContentCheck, without_closing

CLOSINGS = ("I hope this helps.", "Thank you for asking.", "Do ask again.")
SHARE = 0.3
"""How many demonstrations are courteous: enough to learn both tones, too few to prefer the courteous one."""


def courteous(closing: str, content: str) -> str:
    """The content before a closing; a list keeps its lines to itself."""
    between = "\n" if content.startswith("- ") else " "
    return f"{content}{between}{closing}"


def demonstrated(rng: random.Random, content: str) -> str:
    """The content in the tone of those who write demonstrations, of whom some are courteous."""
    return courteous(rng.choice(CLOSINGS), content) if rng.random() < SHARE else content


def content_of(reply: str) -> str:
    """A reply without its closing."""
    return without_closing(reply, CLOSINGS)[0]


def is_courteous(reply: str) -> bool:
    """Whether a reply says something and closes courteously."""
    return without_closing(reply, CLOSINGS)[1]


def in_any_tone(check: ContentCheck) -> Closed:
    """The check of a reply whose content is right, courteous or curt."""
    return Closed(check, CLOSINGS, needed=False)


def in_courteous_tone(check: ContentCheck) -> Closed:
    """The check of a reply whose content is right and which is courteous."""
    return Closed(check, CLOSINGS, needed=True)
