"""The prompts of a card as text, each compared with the token ids that the model was trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from tunesmith.generate.export_directory import declared_format
from tunesmith.model.stock_tokenizer import load_stock_tokenizer
from tunesmith.publish.card.facts import ExampleReply, PromptFacts
from tunesmith.text.formats.format import UNWRITTEN_REPLY, Format, Piece, TextPiece
from tunesmith.text.tokenizer.codec import WhiteSpaceMarks
from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tree import Message

THREE_TURNS = (
    Message("user", "What is the capital of Norway?"),
    Message("assistant", "The capital of Norway is Oslo."),
    Message("user", "How many people live there?"),
)
MARKS = (
    "The vocabulary has neither line breaks nor tabs. Before encoding, a line break is written as the word `<_LB_>` "
    "and a tab as the word `<_T_>`; in a reply, `_LB_>` and `_T_>` are read as a line break and a tab. "
    "`tunesmith.pipeline`, `tunesmith chat` and `tunesmith serve` do both."
)


def read_prompts(export: Path, questions: Sequence[str], reply: ExampleReply | None) -> PromptFacts:
    """The prompts of a card.

    export: the directory of the model.
    questions: of the user, one for each example.
    reply: an example of a reply.
    Raises DataError.
    """
    format, _ = declared_format(export, None)
    renderer = Renderer(format, Tokenizer.load(str(export), format.controls))
    stock = load_stock_tokenizer(export)
    text_of = _piece_writer(renderer)
    write = _writer(format, text_of)
    found = [_plain_text(renderer, stock, write, [Message("user", question)]) for question in questions]
    return PromptFacts(
        name=format.name,
        controls=tuple(format.controls),
        stops=tuple(renderer.tokenizer.decode([token], skip_controls=False) for token in sorted(renderer.stop_ids)),
        questions=tuple(questions),
        texts=tuple(text for text, _ in found),
        added=found[0][1],
        turns=_turns(format, text_of),
        asks="".join(map(text_of, format.split(UNWRITTEN_REPLY, THREE_TURNS[:1]).given)),
        several_turns=write(THREE_TURNS).removeprefix(found[0][1][0]) if format.multi_turn else "",
        marks=MARKS if isinstance(format.codec, WhiteSpaceMarks) else "",
        reply=reply,
    )


def _piece_writer(renderer: Renderer) -> Callable[[Piece], str]:
    """Writes a piece of a message as text, with the texts of control tokens."""
    tokenizer = renderer.tokenizer
    names = {"bos": tokenizer.bos_id, "eos": tokenizer.eos_id, "pad": tokenizer.pad_id}

    def text_of(piece: Piece) -> str:
        if isinstance(piece, TextPiece):
            return piece.text
        if piece.name not in names:
            return piece.name
        token = names[piece.name]
        return "" if token is None else tokenizer.decode([token], skip_controls=False)

    return text_of


def _writer(format: Format, text_of: Callable[[Piece], str]) -> Callable[[Sequence[Message]], str]:
    """Writes the prompt of a conversation as text."""

    def write(messages: Sequence[Message]) -> str:
        conversation = (*messages, UNWRITTEN_REPLY)
        splits = [format.split(each, conversation[:index]) for index, each in enumerate(conversation)]
        pieces = [piece for split in splits[:-1] for piece in (*split.given, *split.produced)]
        return "".join(map(text_of, (*pieces, *splits[-1].given)))

    return write


def _turns(format: Format, text_of: Callable[[Piece], str]) -> dict[str, tuple[str, str]]:
    """Role -> the text that the format adds before and after the content of a message; the first ones of each role."""
    found = dict[str, tuple[str, str]]()
    for index, message in enumerate(THREE_TURNS[:2]):
        split = format.split(message, THREE_TURNS[:index])
        before, content, after = "".join(map(text_of, (*split.given, *split.produced))).partition(message.text)
        if content:
            found[message.role] = (before, after)
    return found


def _plain_text(
    renderer: Renderer,
    stock: PreTrainedTokenizerBase,
    write: Callable[[Sequence[Message]], str],
    messages: Sequence[Message],
) -> tuple[str, tuple[str, str]]:
    """(the text that other programs encode to the ids of a prompt, what their tokenizer adds before and after it)."""
    ids, whole = renderer.prompt(messages), write(messages)
    starts, ends = _tokens_around(renderer.tokenizer, whole)
    for start in starts:
        for end in ends:
            text = whole.removeprefix(start).removesuffix(end)
            if list(stock(text)["input_ids"]) == ids:
                return text, (start, end)
    return whole, ("", "")


def _tokens_around(tokenizer: Tokenizer, whole: str) -> tuple[list[str], list[str]]:
    """The tokens that a tokenizer may add before and after a text, of those that the text has; the empty one last."""
    found = [
        [tokenizer.decode([token], skip_controls=False)] if token is not None else []
        for token in (tokenizer.bos_id, tokenizer.eos_id)
    ]
    starts = [token for token in found[0] if whole.startswith(token)]
    ends = [token for token in found[1] if whole.endswith(token)]
    return [*starts, ""], [*ends, ""]
