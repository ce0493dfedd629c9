"""The world of benchmarks on demonstrations: records in dolly's form, and a model in the shape of Pythia-31m."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.dolly_like import END_OF_TEXT, Record, generate_records
from benchmarks.worlds import World, main
from tunesmith.text.formats.format import Control, Piece
from tunesmith.text.formats.registry import build_format
from tunesmith.text.tree import Message

FORMAT = build_format("dolly")
END = "### End"
SYMBOLS = {"bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT, "unk_token": END_OF_TEXT}
ROWS = 50304
SHAPE = {
    "architecture": "gpt_neox",
    "vocab_size": ROWS,
    "hidden_size": 256,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "intermediate_size": 1024,
    "rotary_pct": 0.25,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": False,
}


def read_records(path: Path, count: int) -> list[Record]:
    """The first ``count`` records of a file in dolly's form that have an instruction and a response."""
    found: list[Record] = []
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            record = Record(row["instruction"], row.get("context") or "", row["response"])
            if record.instruction.strip() and record.response.strip():
                found.append(record)
            if len(found) == count:
                break
    return found


def as_text(pieces: tuple[Piece, ...]) -> str:
    """Pieces written out, control tokens by name."""
    return "".join(piece.name if isinstance(piece, Control) else piece.text for piece in pieces)


def as_pair(record: Record) -> dict[str, str]:
    """The text of a record in the dolly format, cut where the completion begins."""
    question = Message("user", record.instruction, context=record.context)
    asked, answered = FORMAT.split(question, ()), FORMAT.split(Message("assistant", record.response), (question,))
    return {"prompt": as_text((*asked.given, *answered.given)), "completion": as_text(answered.produced)}


WORLD = World(FORMAT, generate_records, read_records, as_pair, SYMBOLS, SHAPE, ROWS)


if __name__ == "__main__":
    main(WORLD)
