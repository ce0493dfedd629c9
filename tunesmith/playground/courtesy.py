"""The tone of a reply: courteous, with a set phrase before or after the content, or curt, the content alone.

Which tone a reply has is a question of letters, so it is counted and not judged; what is right is asked of the content.
"""

from __future__ import annotations

import random

from tunesmith.evaluate.text_match import Content, Framed, unframed

OPENINGS = ("Certainly.", "Of course.", "With pleasure.")
CLOSINGS = ("I hope this helps.", "Thank you for asking.")
PHRASES = (*OPENINGS, *CLOSINGS)
SHARE = 0.35
"""How many demonstrations are courteous: enough to learn both tones, too few to prefer the courteous one."""


def courteous(phrase: str, content: str) -> str:
    """The content after an opening or before a closing; a list keeps its lines to itself."""
    between = "\n" if content.startswith("- ") else " "
    return between.join((phrase, content) if phrase in OPENINGS else (content, phrase))


def demonstrated(rng: random.Random, content: str) -> str:
    """The content in the tone of those who write demonstrations, of whom some are courteous."""
    return courteous(rng.choice(PHRASES), content) if rng.random() < SHARE else content


def content_of(reply: str) -> str:
    """A reply without its set phrases."""
    return unframed(reply, OPENINGS, CLOSINGS)[0]


def is_courteous(reply: str) -> bool:
    """Whether a reply says something and has a set phrase before or after it."""
    content, framed = unframed(reply, OPENINGS, CLOSINGS)
    return framed and bool(content)


def in_any_tone(check: Content) -> Framed:
    """The check of a reply whose content is right, courteous or curt."""
    return Framed(OPENINGS, CLOSINGS, check, needed=False)


def in_courteous_tone(check: Content) -> Framed:
    """The check of a reply whose content is right and which is courteous."""
    return Framed(OPENINGS, CLOSINGS, check, needed=True)
