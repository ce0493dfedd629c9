"""The format ``tokenizer``: the chat template that a tokenizer brings along."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from tunesmith.errors import RecipeError
from tunesmith.text.formats.format import Control, Orders, Parsed, Piece, Split, Text, read_reply, with_context
from tunesmith.text.formats.template_engine import ChatTemplate
from tunesmith.text.formats.template_split import Node, Scaffold, Scaffolds, Slot
from tunesmith.text.tokenizer.codec import AS_IT_IS, Codec
from tunesmith.text.tokenizer.definition import SYMBOLS, locate, read_chat_template, read_definition
from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.text.tree import Message, Role

_ROLES: tuple[Role, ...] = ("system", "user", "assistant")
_ADVICE = "choose another prompt format; this one would be answered with another prompt than it was trained with"


@dataclass(frozen=True, slots=True)
class TokenizerTemplate:
    """The chat template of a tokenizer, as Jinja. Contents stay text, whatever they say.

    template: the text of the template. tokens: JSON with the texts of ``bos_token``, ``eos_token``, ..., the names of all
    control tokens (``controls``) and of those that take the white space after them (``swallowing``);
    ``template_options`` reads all of it from a directory. context: as in ``Oasst``.

    Accepted is a template whose prompt is how the training text begins, and which writes earlier turns the same when turns
    are added. A reply ends with the first control token after it; what comes after that is given with the next turn.
    Raises RecipeError for any other template.
    """

    template: str
    tokens: str = "{}"
    context: Literal["keep", "drop"] = "keep"
    _scaffolds: Scaffolds = field(init=False, repr=False, compare=False)
    stops: tuple[str, ...] = field(init=False, repr=False, compare=False)

    name: ClassVar[str] = "tokenizer"
    controls: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        known = _read_tokens(self.tokens)
        named = {key: value for key, value in known.items() if isinstance(value, str)}
        template = ChatTemplate(self.template, named)
        scaffolds = Scaffolds(template, known.get("controls", ()), known.get("swallowing", ()))
        object.__setattr__(self, "_scaffolds", scaffolds)
        found = scaffolds.node(("user", "assistant")).found
        if isinstance(found, str):
            raise RecipeError(found, where="text.format", advice=_ADVICE)
        longer: tuple[tuple[Role, ...], ...] = (("system", "user", "assistant"), ("user", "assistant") * 2)
        paths = [found, *(scaffolds.node(roles).found for roles in longer)]
        ends = [path.produced[-1] for path in paths if isinstance(path, Scaffold) and path.produced]
        object.__setattr__(self, "stops", tuple(dict.fromkeys(end.name for end in ends if isinstance(end, Control))))

    @property
    def orders(self) -> Orders:
        """Which role may follow which, as far as the template says so for the shortest conversations."""
        paths: dict[Role | None, tuple[Role, ...]] = {
            None: (),
            "system": ("system",),
            "user": ("user",),
            "assistant": ("user", "assistant"),
        }
        return {
            previous: tuple(role for role in _ROLES if self._accepts((*path, role)))
            for previous, path in paths.items()
            if self._accepts(path)
        }

    @property
    def multi_turn(self) -> bool:
        return self._accepts(("user", "assistant", "user", "assistant"))

    @property
    def continues(self) -> bool:
        split = self._pieces(("user", "assistant"), ("", "?"))
        before = self._pieces(("user",), ("",)).given
        last = (*before, *split.given)[-1:]
        return bool(last) and isinstance(last[0], Text) and isinstance(split.produced[0], Text)

    @property
    def codec(self) -> Codec:
        return AS_IT_IS

    @property
    def opening(self) -> tuple[Piece, ...]:
        return ()

    def objection(self, message: Message, before: Sequence[Message]) -> str | None:
        node = self._node([*before, message])
        if isinstance(node.found, str):
            return node.found
        contents = [with_context(each, self.context) for each in (*before, message)]
        return self._scaffolds.difference(node, contents)

    def split(self, message: Message, before: Sequence[Message]) -> Split:
        messages = (*before, message)
        return self._pieces([each.role for each in messages], [with_context(each, self.context) for each in messages])

    def parse(self, ids: Sequence[int], tokenizer: Tokenizer) -> Parsed:
        """The reply without what the template writes around it."""
        found = read_reply(ids, tokenizer, self.stops, self.continues)
        node = self._scaffolds.node(("user", "assistant"))
        assert isinstance(node.found, Scaffold)
        produced = node.found.produced
        place = next(index for index, part in enumerate(produced) if isinstance(part, Slot))
        slot, swallowing = produced[place], self._scaffolds.pieces(node.found.given, ("", ""), node.found.swallowing)[1]
        assert isinstance(slot, Slot)
        front, swallowing = self._scaffolds.pieces(produced[:place], ("", ""), swallowing)
        behind, _ = self._scaffolds.pieces(produced[place + 1 :], ("", ""), False)
        text = found.text.removeprefix("".join(piece.text for piece in front if isinstance(piece, Text)))
        if found.stopped:
            text = text.removesuffix("".join(piece.text for piece in behind if isinstance(piece, Text)))
        text = text.lstrip() if slot.left or swallowing else text
        return Parsed(text.rstrip() if slot.right else text, found.stopped)

    def chat_template(self) -> str:
        return self.template

    def _node(self, messages: Sequence[Message]) -> Node:
        return self._scaffolds.node([message.role for message in messages])

    def _accepts(self, roles: Sequence[Role]) -> bool:
        return isinstance(self._scaffolds.node(roles).found, Scaffold)

    def _pieces(self, roles: Sequence[Role], contents: Sequence[str]) -> Split:
        found = self._scaffolds.node(roles).found
        assert isinstance(found, Scaffold), found
        given, swallowing = self._scaffolds.pieces(found.given, contents, found.swallowing)
        produced, _ = self._scaffolds.pieces(found.produced, contents, swallowing)
        return Split(given, produced)


def template_options(
    path_or_hub_name: str, revision: str | None = None, given: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """All options of the format; ``template`` and ``tokens`` are read from the tokenizer unless they are ``given``.

    Raises MissingInputError, DataError, RecipeError.
    """
    directory = locate(path_or_hub_name, revision)
    definition = read_definition(directory)
    template = (given or {}).get("template", read_chat_template(directory))
    if template is None:
        what = "this tokenizer brings no chat template"
        advice = "choose a prompt format by name, such as chatml, or give one as text.options.template"
        raise RecipeError(what, where=path_or_hub_name, advice=advice)
    names = Tokenizer(definition).control_names
    flags = {token["content"]: token for token in definition.added}
    taking = [name for name in names if flags.get(name, {}).get("lstrip") and name in str(template)]
    if taking:
        what = f"the token {taking[0]!r} takes the white space before it, which a prompt cannot know"
        raise RecipeError(what, where=path_or_hub_name, advice=_ADVICE)
    symbols = definition.symbols
    known: dict[str, Any] = {f"{symbol}_token": symbols[symbol] for symbol in SYMBOLS if symbol in symbols}
    known["controls"] = list(names)
    known["swallowing"] = [name for name in names if flags.get(name, {}).get("rstrip")]
    tokens = json.dumps(known, ensure_ascii=False, sort_keys=True)
    return {"template": template, "tokens": tokens, **(given or {})}


def _read_tokens(text: str) -> dict[str, Any]:
    """The option ``tokens``. Raises RecipeError."""
    advice = "leave it out; it is taken from the tokenizer"
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"not JSON: {error}", where="text.options.tokens", advice=advice) from error
    lists = [found.get(key, []) for key in ("controls", "swallowing")] if isinstance(found, dict) else [None]
    if not all(isinstance(names, list) and all(isinstance(name, str) and name for name in names) for names in lists):
        raise RecipeError("not an object with names of tokens", where="text.options.tokens", advice=advice)
    return dict(found)
