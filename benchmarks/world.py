"""What all contenders of a benchmark share, on disk: records, tokenizer, and a model with random weights.

WORLD/records.jsonl   dolly's fields, for us
WORLD/pairs.jsonl     the same records as prompt and completion text, for TRL
WORLD/tokenizer/      with the control tokens of the dolly format
WORLD/model/          the shape of Pythia-31m
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benchmarks.dolly_like import Record, generate_records, train_tokenizer
from tunesmith.model.load import new_model
from tunesmith.text.formats import Control, Piece, build_format
from tunesmith.text.tokenizer import Tokenizer
from tunesmith.text.tree import Message

FORMAT = build_format("dolly")
END = "### End"
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
SEED = 1


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


def build_world(directory: Path, data: Path | None, tokenizer: str | None, count: int, *, model: bool = True) -> None:
    """Write the world. data: a file in dolly's form, or None for generated records; tokenizer: likewise."""
    records = generate_records(count) if data is None else read_records(data, count)
    if len(records) < count:
        raise SystemExit(f"{data}: {len(records)} usable records, {count} asked for")
    if tokenizer is None:
        tokenizer = str(directory / "plain_tokenizer")
        train_tokenizer(records if len(records) >= 1000 else [*records, *generate_records(1000)], Path(tokenizer))
    Tokenizer.load(tokenizer, FORMAT.controls).save(directory / "tokenizer")
    fields = ("instruction", "context", "response")
    rows = [{name: getattr(record, name) for name in fields} for record in records]
    for name, lines in (("records", rows), ("pairs", [as_pair(record) for record in records])):
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        (directory / f"{name}.jsonl").write_text(text, encoding="utf-8")
    if model:
        new_model(SHAPE, ROWS, SEED).save_pretrained(directory / "model")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--tokenizer")
    parser.add_argument("--records", type=int, required=True)
    parser.add_argument("--no-model", dest="model", action="store_false")
    given = parser.parse_args()
    build_world(given.directory, given.data, given.tokenizer, given.records, model=given.model)


if __name__ == "__main__":
    main()
