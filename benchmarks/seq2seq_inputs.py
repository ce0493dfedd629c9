"""The inputs of ``benchmarks.seq2seq``: dolly's records in the format t5-dolly, and a small model like T5 1.1.

The model has no dropout. The tokenizer has an end token and a padding token.
"""

from __future__ import annotations

from benchmarks.dolly_like import Record, generate_records
from benchmarks.inputs import Inputs, main
from benchmarks.sft_inputs import read_records, split_record
from tunesmith.text.formats.format import Piece, TextPiece
from tunesmith.text.formats.registry import build_format

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
    """The text of the pieces without the end token, which every runner adds itself."""
    return "".join(piece.text for piece in pieces if isinstance(piece, TextPiece))


def as_input_target(record: Record) -> dict[str, str]:
    """The input and the target of a record as texts."""
    question, response = split_record(FORMAT, record)
    return {"input": _text(question.given), "target": _text(response.produced)}


INPUTS = Inputs(FORMAT, generate_records, read_records, as_input_target, SYMBOLS, SHAPE, ROWS)


if __name__ == "__main__":
    main(INPUTS)
