"""The world of ``benchmarks.seq2seq``: dolly's records, input and target in the format t5-dolly, and a model in the shape
of T5 1.1, small, without dropout. The tokenizer has an end token and a padding token."""

from __future__ import annotations

from benchmarks.dolly_like import Record, generate_records
from benchmarks.world import read_records
from benchmarks.worlds import World, main
from tunesmith.text.formats.format import Piece, TextPiece
from tunesmith.text.formats.registry import build_format
from tunesmith.text.tree import Message

FORMAT = build_format("t5-dolly")
MAX_INPUT, MAX_TARGET = 512, 256
SYMBOLS = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
ROWS = 32128
SHAPE = {
    "architecture": "t5",
    "vocab_size": ROWS,
    "d_model": 256,
    "d_kv": 32,
    "d_ff": 512,
    "num_layers": 4,
    "num_decoder_layers": 4,
    "num_heads": 8,
    "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": False,
    "dropout_rate": 0.0,
    "pad_token_id": 0,
    "eos_token_id": 1,
}


def _text(pieces: tuple[Piece, ...]) -> str:
    """Pieces without the end token, which every contender adds itself."""
    return "".join(piece.text for piece in pieces if isinstance(piece, TextPiece))


def as_pair(record: Record) -> dict[str, str]:
    """Input and target of a record, as the tokenizer gets them."""
    question = Message("user", record.instruction, context=record.context)
    asked, answered = FORMAT.split(question, ()), FORMAT.split(Message("assistant", record.response), (question,))
    return {"input": _text(asked.given), "target": _text(answered.produced)}


WORLD = World(FORMAT, generate_records, read_records, as_pair, SYMBOLS, SHAPE, ROWS)


if __name__ == "__main__":
    main(WORLD)
