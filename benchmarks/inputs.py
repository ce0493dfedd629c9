"""The inputs that all runners of a benchmark share, as files in one directory:

records.jsonl   the records, in the fields of one of our readers
pairs.jsonl     the same records as texts for the other library
tokenizer/      a tokenizer with the control tokens of the prompt format
model/          random weights, if the benchmark needs a model
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
TOKENIZER_RECORDS = (
    1000  # generated records that are added where a tokenizer would be trained on fewer records than this
)


@dataclass(frozen=True, slots=True)
class Inputs:
    """How the inputs of one benchmark are made. Its records are dataclasses of texts.

    format: the prompt format.
    generate: generate(count) makes up records.
    read: read(path, count) returns the first usable records of a file.
    as_text: as_text(record) returns the record as the texts that the other library gets.
    symbols: the special tokens of a generated tokenizer (``train_tokenizer``).
    shape: the configuration of the model.
    rows: the rows of its embedding.
    models: directory -> what differs from ``shape`` in the model that is written there. All are drawn with one seed.
    """

    format: Format
    generate: Callable[[int], Sequence[Any]]
    read: Callable[[Path, int], Sequence[Any]]
    as_text: Callable[[Any], Mapping[str, str]]
    symbols: Mapping[str, str]
    shape: Mapping[str, Any]
    rows: int
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: {"model": {}})

    def write(
        self, directory: Path, data: Path | None, tokenizer: str | None, count: int, *, model: bool = True
    ) -> None:
        """Write all files.

        data: a file that ``read`` takes; None generates records.
        tokenizer: a tokenizer directory; None trains one.
        count: the number of records.
        model: whether to write the models too.
        Raises SystemExit if the file has fewer usable records.
        """
        records = self.generate(count) if data is None else self.read(data, count)
        if len(records) < count:
            raise SystemExit(f"{data}: {count} records are needed, the file has {len(records)} usable ones")
        if tokenizer is None:
            tokenizer = str(directory / "plain_tokenizer")
            enough = len(records) >= TOKENIZER_RECORDS
            learned = records if enough else [*records, *self.generate(TOKENIZER_RECORDS)]
            train_tokenizer([text for each in learned for text in astuple(each)], Path(tokenizer), self.symbols)
        Tokenizer.load(tokenizer, self.format.controls).save(directory / "tokenizer")
        rows = [asdict(record) for record in records]
        for name, lines in (("records", rows), ("pairs", [self.as_text(record) for record in records])):
            text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
            (directory / f"{name}.jsonl").write_text(text, encoding="utf-8")
        for name, changes in self.models.items() if model else ():
            new_model({**self.shape, **changes}, self.rows, SEED).save_pretrained(directory / name)


def main(inputs: Inputs) -> None:
    """The command line of a module that writes inputs."""
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--tokenizer")
    parser.add_argument("--records", type=int, required=True)
    parser.add_argument("--no-model", dest="model", action="store_false")
    given = parser.parse_args()
    inputs.write(given.directory, given.data, given.tokenizer, given.records, model=given.model)
