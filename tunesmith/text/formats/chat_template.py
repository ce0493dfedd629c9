"""The format ``tokenizer``: the chat template of a tokenizer as a prompt format."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from tunesmith.errors import RecipeError
from tunesmith.text.formats.format import (
    Control,
    Format,
    NextRoles,
    ParsedReply,
    Piece,
    Split,
    TextPiece,
    decode_reply,
    with_context,
)
from tunesmith.text.formats.template_engine import ChatTemplate
from tunesmith.text.formats.template_split import ContentSlot, TemplateSplitter, TurnTemplate
from tunesmith.text.tokenizer.definition import SYMBOLS, locate, read_chat_template, read_definition
from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.text.tree import Message, Role

_ROLES: tuple[Role, ...] = ("system", "user", "assistant")
_SHORTEST: Mapping[Role | None, tuple[Role, ...]] = {
    None: (),
    "system": ("system",),
    "user": ("user",),
    "assistant": ("user", "assistant"),
}
"""The shortest conversation that ends with a role; the key None means the beginning."""
_ONE_TURN: tuple[Role, ...] = ("user", "assistant")
_ADVICE = "choose another prompt format; with this template the prompt of generation would differ from that of training"


@dataclass(frozen=True, slots=True)
class TokenizerTemplate(Format):
    """The Jinja chat template of a tokenizer. Contents stay text, whatever they contain.

    A template is accepted if its prompt is the beginning of its training text and if it writes earlier turns unchanged
    when turns are added. A reply ends with the first control token after it; what follows that is given with the next
    turn.

    template: the text of the template.
    tokens: JSON with the texts of ``bos_token``, ``eos_token``, ..., with the names of all control tokens
        (``controls``) and of those that strip the white space after them (``swallowing``). ``template_options`` reads
        it from a directory.
    context: "keep" if the context passage of a message follows its text after a blank line, "drop" if it is left out.

    Raises RecipeError for a template that is not accepted.
    """

    template: str
    tokens: str = "{}"
    context: Literal["keep", "drop"] = "keep"
    stops: tuple[str, ...] = field(init=False, repr=False, compare=False)
    _splitter: TemplateSplitter = field(init=False, repr=False, compare=False)

    name: ClassVar[str] = "tokenizer"

    def __post_init__(self) -> None:
        known = _read_tokens(self.tokens)
        special = {key: value for key, value in known.items() if isinstance(value, str)}
        template = ChatTemplate(self.template, special)
        splitter = TemplateSplitter(template, known.get("controls", ()), known.get("swallowing", ()))
        object.__setattr__(self, "_splitter", splitter)
        turn = splitter.node(_ONE_TURN).turn
        if isinstance(turn, str):
            raise RecipeError(turn, where="text.format", advice=_ADVICE)
        others = (splitter.node(roles).turn for roles in (("system", *_ONE_TURN), (*_ONE_TURN, *_ONE_TURN)))
        turns = [turn, *(other for other in others if isinstance(other, TurnTemplate))]
        ends = [each.produced[-1] for each in turns if each.produced]
        object.__setattr__(self, "stops", tuple(dict.fromkeys(end.name for end in ends if isinstance(end, Control))))

    @property
    def next_roles(self) -> NextRoles:
        """Which role may follow which, according to the template for the shortest conversations."""
        return {
            previous: tuple(role for role in _ROLES if self._accepts((*roles, role)))
            for previous, roles in _SHORTEST.items()
            if self._accepts(roles)
        }

    @property
    def multi_turn(self) -> bool:
        return self._accepts((*_ONE_TURN, *_ONE_TURN))

    @property
    def reply_continues_text(self) -> bool:
        reply = self._split(_ONE_TURN, ("", "?"))
        prompt = (*self._split(("user",), ("",)).given, *reply.given)
        return bool(prompt) and isinstance(prompt[-1], TextPiece) and isinstance(reply.produced[0], TextPiece)

    def find_fault(self, message: Message, before: Sequence[Message]) -> str | None:
        messages = (*before, message)
        node = self._splitter.node([each.role for each in messages])
        if isinstance(node.turn, str):
            return node.turn
        return self._splitter.find_difference(node, [with_context(each, self.context) for each in messages])

    def split(self, message: Message, before: Sequence[Message]) -> Split:
        messages = (*before, message)
        return self._split([each.role for each in messages], [with_context(each, self.context) for each in messages])

    def parse(self, ids: Sequence[int], tokenizer: Tokenizer) -> ParsedReply:
        """Decode a reply without the text that the template writes before and after it."""
        raw = decode_reply(self, ids, tokenizer)
        turn, contents = self._turn(_ONE_TURN), ("", "")
        place, slot = next((n, part) for n, part in enumerate(turn.produced) if isinstance(part, ContentSlot))
        _, stripped = self._splitter.fill(turn.given, contents, turn.stripped)
        before, stripped = self._splitter.fill(turn.produced[:place], contents, stripped)
        after, _ = self._splitter.fill(turn.produced[place + 1 :], contents, False)
        text = raw.text.removeprefix(_text(before))
        if raw.stopped:
            text = text.removesuffix(_text(after))
        text = text.lstrip() if slot.lstrip or stripped else text
        return ParsedReply(text.rstrip() if slot.rstrip else text, raw.stopped)

    def chat_template(self) -> str:
        return self.template

    def _accepts(self, roles: Sequence[Role]) -> bool:
        return isinstance(self._splitter.node(roles).turn, TurnTemplate)

    def _turn(self, roles: Sequence[Role]) -> TurnTemplate:
        turn = self._splitter.node(roles).turn
        assert isinstance(turn, TurnTemplate), turn
        return turn

    def _split(self, roles: Sequence[Role], contents: Sequence[str]) -> Split:
        turn = self._turn(roles)
        given, stripped = self._splitter.fill(turn.given, contents, turn.stripped)
        produced, _ = self._splitter.fill(turn.produced, contents, stripped)
        return Split(given, produced)


def template_options(
    path_or_hub_name: str, revision: str | None = None, given: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return all options of the format ``tokenizer`` for a tokenizer.

    path_or_hub_name, revision: of the tokenizer, as for ``Tokenizer.load``.
    given: options that replace those of the tokenizer.

    Raises MissingInputError, DataError, RecipeError.
    """
    directory = locate(path_or_hub_name, revision)
    definition = read_definition(directory)
    template = (given or {}).get("template", read_chat_template(directory))
    if template is None:
        what = "this tokenizer has no chat template"
        advice = "choose a prompt format by name, such as chatml, or give a template as text.options.template"
        raise RecipeError(what, where=path_or_hub_name, advice=advice)
    names = Tokenizer(definition).control_names
    flags = {token["content"]: token for token in definition.added}
    stripping = [name for name in names if flags.get(name, {}).get("lstrip") and name in str(template)]
    if stripping:
        what = f"the token {stripping[0]!r} strips the white space before it, which a prompt cannot do in advance"
        raise RecipeError(what, where=path_or_hub_name, advice=_ADVICE)
    symbols = definition.symbols
    known: dict[str, Any] = {f"{symbol}_token": symbols[symbol] for symbol in SYMBOLS if symbol in symbols}
    known["controls"] = list(names)
    known["swallowing"] = [name for name in names if flags.get(name, {}).get("rstrip")]
    tokens = json.dumps(known, ensure_ascii=False, sort_keys=True)
    return {"template": template, "tokens": tokens, **(given or {})}


def _read_tokens(text: str) -> dict[str, Any]:
    """Parse the option ``tokens``. Raises RecipeError."""
    advice = "leave it out; it is taken from the tokenizer"
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"not JSON: {error}", where="text.options.tokens", advice=advice) from error
    lists = [found.get(key, []) for key in ("controls", "swallowing")] if isinstance(found, dict) else [None]
    if not all(isinstance(names, list) and all(isinstance(name, str) and name for name in names) for names in lists):
        raise RecipeError("not an object with names of tokens", where="text.options.tokens", advice=advice)
    return dict(found)


def _text(pieces: Sequence[Piece]) -> str:
    return "".join(piece.text for piece in pieces if isinstance(piece, TextPiece))
