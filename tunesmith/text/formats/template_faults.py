"""What is wrong with a rendering of a chat template, and how two renderings differ, in words."""

from __future__ import annotations

from collections.abc import Sequence

from tunesmith.text.formats.template_messages import MARKER, Shape, show, tools_of, unshield

_QUOTED = 30  # characters that are quoted on either side of a difference


def find_marker_fault(shapes: Sequence[Shape], full: str) -> str | None:
    """Return what is wrong with the markers of a rendering: each must be there once. None if nothing is."""
    found = [int(place.group(2)) for place in MARKER.finditer(full)]
    wanted = [
        2 * index + offset
        for index, shape in enumerate(shapes)
        for offset, there in enumerate((shape.text, shape.reasoning))
        if there
    ]
    if sorted(found) == wanted:
        return _find_lost_calls(shapes, full)
    lost = [number for number in wanted if number not in found]
    if lost and all(number % 2 for number in lost) and len(set(found)) == len(found):
        turns = ", ".join(str(number // 2 + 1) for number in lost)
        return f"the chat template leaves out the reasoning of turn {turns} of {len(shapes)} turns"
    turns = ", ".join(str(number // 2 + 1) for number in wanted if found.count(number) != 1)
    what = f"(turn {turns} of {len(shapes)} turns)"
    return f"the chat template does not write every turn exactly once {what}: {shorten_rendering(full)}"


def _find_lost_calls(shapes: Sequence[Shape], full: str) -> str | None:
    """Return which names of tools a rendering lacks, or None."""
    text = unshield(full)
    for index, shape in enumerate(shapes):
        for call in shape.tool_calls:
            if call.name not in text:
                return f"the chat template leaves out the tool calls of turn {index + 1} of {len(shapes)} turns"
    for tool in tools_of(shapes[:1]) or ():
        function = tool.get("function", tool) if isinstance(tool, dict) else {}
        name = function.get("name") if isinstance(function, dict) else None
        if isinstance(name, str) and name not in text:
            return "the chat template has no place for definitions of tools"
    return None


def shared_prefix_length(one: str, other: str) -> int:
    """Return the length of the longest common prefix of two texts."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[:middle] == other[:middle] else (low, middle - 1)
    return low


def shorten_rendering(text: str) -> str:
    """Quote a rendering, a long one without its middle."""
    text = show(text)
    return repr(text if len(text) <= 8 * _QUOTED else f"{text[: 2 * _QUOTED]} ... {text[-4 * _QUOTED :]}")


def describe_difference(one: str, other: str) -> str:
    """Quote both texts around the first position where they differ."""
    one, other = show(one), show(other)
    place = shared_prefix_length(one, other)
    window = slice(max(place - _QUOTED, 0), place + _QUOTED)
    return f"{one[window]!r} against {other[window]!r}"
