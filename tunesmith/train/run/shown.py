"""What a run shows of its numbers and replies: chosen by its method, formatted here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

GAP = "  "
"""Between two items of a line."""
OMITTED = " ... "
"""In place of the middle of a text that is too long."""
SHARE, NUMBER, SIGNED = ".1%", ".4f", "+.3f"
"""Formats of a share of 1, of another number, and of one whose sign matters."""


@dataclass(frozen=True, slots=True)
class ShownMetric:
    """A metric that is shown while a run trains; metrics.jsonl has all of them.

    name: its name in metrics.jsonl.
    label: what it is called on the screen.
    form: how its value is formatted, such as SHARE.
    """

    name: str
    label: str
    form: str = NUMBER

    def format(self, value: float) -> str:
        """``token accuracy 50.0%``."""
        return f"{self.label} {value:{self.form}}"


LOSS = ShownMetric("loss", "loss")


@dataclass(frozen=True, slots=True)
class ShownText:
    """A prompt, or a reply to it, that is shown after an evaluation.

    label: what the text is, such as ``reply``.
    text: of any length, with line breaks.
    """

    label: str
    text: str

    def line(self, width: int) -> str:
        """``reply: It is red.`` on one line of at most ``width`` characters; the middle of a longer text is omitted."""
        words = " ".join(self.text.split())
        return f"{self.label}: {shorten(words, max(0, width - len(self.label) - 2)) or '(empty)'}"


def shorten(text: str, width: int) -> str:
    """The text with its middle replaced by dots where it has more than ``width`` characters."""
    if len(text) <= width:
        return text
    end = max(0, width - len(OMITTED)) // 3
    return (text[: max(0, width - len(OMITTED) - end)] + OMITTED + text[len(text) - end :])[:width]


def format_metrics(metrics: Mapping[str, float], shown: Sequence[ShownMetric]) -> list[str]:
    """One item for each shown metric that is there, in the order of ``shown``."""
    return [each.format(metrics[each.name]) for each in shown if each.name in metrics]


def pack(items: Sequence[str], width: int) -> list[str]:
    """Put the items on as few lines as ``width`` allows; an item is never divided."""
    lines: list[str] = []
    for item in items:
        if lines and len(lines[-1]) + len(GAP) + len(item) <= width:
            lines[-1] += GAP + item
        else:
            lines.append(item)
    return lines
