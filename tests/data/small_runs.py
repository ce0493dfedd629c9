"""A few records, files of them in every form, and short ways to prepare them."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from tunesmith.data.dataset.prepare import Prepared, prepare
from tunesmith.data.dataset.rendering import RenderSettings
from tunesmith.data.dataset.store import LAYOUT, Store
from tunesmith.data.readers.source_config import SourceConfig

RECORDS: list[dict[str, Any]] = [
    {
        "instruction": f"What is {number} + {number}?",
        "context": "sum" * (number % 3),
        "response": f"It is {2 * number}.",
    }
    for number in range(60)
]


def write(path: Path, records: list[dict[str, Any]]) -> Path:
    """The records in the form that the name asks for."""
    text = json.dumps(records, ensure_ascii=False, indent=1)
    if ".csv" in path.name or ".tsv" in path.name:
        text = as_table(records, "\t" if ".tsv" in path.name else ",")
    elif ".jsonl" in path.name:
        text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records), path, row_group_size=2)
    elif path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8", newline="")
    return path


def as_table(records: list[dict[str, Any]], delimiter: str) -> str:
    """Records of texts as the module csv writes them, with every cell in quotes."""
    held = io.StringIO(newline="")
    writer = csv.DictWriter(held, list(records[0]), delimiter=delimiter, quoting=csv.QUOTE_ALL)
    writer.writeheader()
    writer.writerows(records)
    return held.getvalue()


def run(
    path: Path | str,
    tokenizer: str,
    cache: Path,
    *,
    validation: int | float = 0,
    seed: int = 0,
    workers: int = 0,
    reader: str = "dolly",
    fields: dict[str, str] | None = None,
    options: dict[str, Any] | None = None,
    name: str = "data",
    progress: Any = None,
    prompts: Any = None,
    **render: Any,
) -> Prepared:
    settings = RenderSettings(**{"tokenizer": tokenizer, "format": "dolly", "max_length": 200, **render})
    spec = SourceConfig(name, str(path), reader, fields=fields or {}, options=options or {}, prompts=prompts)
    told = {} if progress is None else {"progress": progress}
    return prepare([spec], settings, validation=validation, seed=seed, cache=cache, workers=workers, **told)


def content(store: Store) -> list[tuple[Any, ...]]:
    trees = [store.tree(index) for index in range(len(store))]
    return [(t.ids.tolist(), t.segments.tolist(), t.spans.tolist(), t.threads, t.cut) for t in trees]


def arrays(prepared: Prepared) -> dict[str, bytes]:
    return {name: (prepared.directory / "store" / f"{name}.bin").read_bytes() for name in LAYOUT}


def left(cache: Path) -> list[str]:
    """What is in the cache, apart from locks."""
    return [str(item) for item in cache.rglob("*") if item.is_file() and item.name != "lock"]
