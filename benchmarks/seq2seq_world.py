"""What both contenders of ``benchmarks.seq2seq`` share, on disk.

WORLD/records.jsonl   dolly's fields, for us
WORLD/pairs.jsonl     the same records as text of input and target in the format t5-dolly, for the trainer
WORLD/tokenizer/      with an end token and a padding token
WORLD/model/          the shape of T5 1.1, small, without dropout
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from tokenizers import Tokenizer as Library
from tokenizers import decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

from benchmarks.dolly_like import VOCABULARY, Record, generate_records
from benchmarks.world import read_records
from tunesmith.model.load import new_model
from tunesmith.text.formats import Piece, Text, build_format
from tunesmith.text.tokenizer import Tokenizer
from tunesmith.text.tree import Message

FORMAT = build_format("t5-dolly")
MAX_INPUT, MAX_TARGET = 512, 256
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
SEED = 1


def train_tokenizer(records: list[Record], directory: Path) -> None:
    """A byte-level BPE with the special tokens of T5."""
    library = Library(BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    specials, alphabet = ["<pad>", "</s>", "<unk>"], pre_tokenizers.ByteLevel.alphabet()
    trainer = BpeTrainer(vocab_size=VOCABULARY, special_tokens=specials, initial_alphabet=alphabet, show_progress=False)
    library.train_from_iterator(
        [text for each in records for text in (each.instruction, each.context, each.response)], trainer
    )
    directory.mkdir(parents=True, exist_ok=True)
    library.save(str(directory / "tokenizer.json"))
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    (directory / "tokenizer_config.json").write_text(json.dumps(names) + "\n", encoding="utf-8")


def _text(pieces: tuple[Piece, ...]) -> str:
    """Pieces without the end token, which every contender adds itself."""
    return "".join(piece.text for piece in pieces if isinstance(piece, Text))


def as_pair(record: Record) -> dict[str, str]:
    """Input and target of a record, as the tokenizer gets them."""
    question = Message("user", record.instruction, context=record.context)
    asked, answered = FORMAT.split(question, ()), FORMAT.split(Message("assistant", record.response), (question,))
    return {"input": _text(asked.given), "target": _text(answered.produced)}


def build_world(directory: Path, data: Path | None, tokenizer: str | None, count: int, *, model: bool = True) -> None:
    """Write the world. data: a file in dolly's form, or None for generated records; tokenizer: likewise."""
    records = generate_records(count) if data is None else read_records(data, count)
    if len(records) < count:
        raise SystemExit(f"{data}: {len(records)} usable records, {count} asked for")
    if tokenizer is None:
        tokenizer = str(directory / "plain_tokenizer")
        train_tokenizer([*records, *generate_records(1000)], Path(tokenizer))
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
    given = parser.parse_args()
    build_world(given.directory, given.data, given.tokenizer, given.records)


if __name__ == "__main__":
    main()
