"""What all worlds have in common. A world is what the contenders of a benchmark share, on disk:

WORLD/records.jsonl   the records, in fields that one of our readers takes
WORLD/pairs.jsonl     the same records as the text that the peer gets
WORLD/tokenizer/      with the control tokens of the prompt format
WORLD/model/          random weights, if the benchmark needs a model
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.dolly_like import train_tokenizer
from tunesmith.model.load import new_model
from tunesmith.text.formats.format import Format
from tunesmith.text.tokenizer.tokenizer import Tokenizer

SEED = 1
DRAWN = 1000  # generated records that a tokenizer is trained on besides the world's own


@dataclass(frozen=True, slots=True)
class World:
    """One kind of world; R is its record, a dataclass of texts.

    generate(count): made-up records. read(path, count): the first usable records of a file. written(record): the peer's text.
    symbols: names of the special tokens of a generated tokenizer. shape: the model's, with ``rows`` in its embedding.
    models: what is different in the shape of each, by the name of its directory; all are drawn from one seed.
    """

    format: Format
    generate: Callable[[int], Sequence[Any]]
    read: Callable[[Path, int], Sequence[Any]]
    written: Callable[[Any], Mapping[str, str]]
    symbols: Mapping[str, str]
    shape: Mapping[str, Any]
    rows: int
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: {"model": {}})

    def build(
        self, directory: Path, data: Path | None, tokenizer: str | None, count: int, *, model: bool = True
    ) -> None:
        """Write the world. data: a file that ``read`` takes, or None for generated records; tokenizer: likewise."""
        records = self.generate(count) if data is None else self.read(data, count)
        if len(records) < count:
            raise SystemExit(f"{data}: {len(records)} usable records, {count} asked for")
        if tokenizer is None:
            tokenizer = str(directory / "plain_tokenizer")
            learned = records if len(records) >= DRAWN else [*records, *self.generate(DRAWN)]
            train_tokenizer([text for each in learned for text in astuple(each)], Path(tokenizer), self.symbols)
        Tokenizer.load(tokenizer, self.format.controls).save(directory / "tokenizer")
        rows = [asdict(record) for record in records]
        for name, lines in (("records", rows), ("pairs", [self.written(record) for record in records])):
            text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
            (directory / f"{name}.jsonl").write_text(text, encoding="utf-8")
        for name, changes in self.models.items() if model else ():
            new_model({**self.shape, **changes}, self.rows, SEED).save_pretrained(directory / name)


def main(world: World) -> None:
    """The command line of a world."""
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--tokenizer")
    parser.add_argument("--records", type=int, required=True)
    parser.add_argument("--no-model", dest="model", action="store_false")
    given = parser.parse_args()
    world.build(given.directory, given.data, given.tokenizer, given.records, model=given.model)
