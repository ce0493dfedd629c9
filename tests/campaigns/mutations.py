"""Damage to the values, the text and the bytes of good files. All of it follows from one random generator."""

from __future__ import annotations

import copy
import csv
import gzip
import io
import json
import random
from collections.abc import Callable, Sequence
from typing import Any

import openpyxl
import pyarrow
import pyarrow.ipc
import pyarrow.parquet
from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE as ILLEGAL

from tests.data.bad_preferences import GROUPS
from tests.data.bad_records import BAD_RECORDS, GOOD_RECORDS, SETTINGS

FORMS = ("a.jsonl", "a.json", "a.jsonl.gz", "a.json.gz", "a.parquet", "a.csv", "a.tsv.gz", "a.txt", "a.arrow", "a.xlsx")
JUNK: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 2**63, 2**64, 10**400, 0.1, 1e308, float("nan"), float("inf"), "", " ", "\n", "\0"),
    *("a" * 70_000, "\u2028", "\ufeff", "🤖", "<|endoftext|>", "<|im_end|>", "</s>", "user", "assistant", "prompter"),
    *([], {}, [[]], [{}], {"": ""}, ["a"], {"text": "a"}, {"role": "user", "content": "a"}, "2024-02-30", "\x1b[31m"),
)
LARGEST = 300_000  # characters of a damaged record; larger ones are tried elsewhere
WORDS = (
    *(
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        '"',
        "\\",
        "\n",
        "\r",
        "\t",
        " ",
        "\0",
        "null",
        "true",
        "NaN",
        "-Infinity",
        "1e999",
    ),
    *(
        "\\u0000",
        "\\ud800",
        "\\udc00\\ud800",
        "\\u00",
        "\ufeff",
        "\u2028",
        "\u0085",
        "[" * 70,
        '{"a":' * 70,
        "1" * 5000,
    ),
    *('"role"', '"Role": 1,', '"text": 1,', "//", "'", "\x7f", "}{", "},{", "}\n{"),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of everything inside a value."""
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for step, inner in steps for place in places(inner, (*path, step)))]


def damage_value(draw: random.Random, record: Any) -> Any:
    """Replace, remove, copy, rename or wrap one thing inside a record."""
    record = copy.deepcopy(record)
    *way, last = draw.choice(places(record)[1:] or [(None,)])
    inside = record
    for step in way:
        inside = inside[step]
    if last is None:
        return draw.choice(JUNK)
    change = draw.randrange(6)
    if change == 0:
        del inside[last]
    elif change == 1:
        inside[last] = [inside[last]] * draw.choice((1, 2, 3, 2001 if len(str(inside[last])) < 500 else 4))
    elif change == 2 and isinstance(inside, dict):
        inside[draw.choice((str(last).upper(), f"{last} ", "", "role", "text", "message_id"))] = inside.pop(last)
    elif change == 3:
        for _ in range(draw.choice((1, 5, 70))):
            inside[last] = {"a": inside[last]} if draw.random() < 0.5 else [inside[last]]
    elif change == 4:
        inside[last] = copy.deepcopy(draw.choice([inner for _, inner in pairs(record)]))
    else:
        inside[last] = draw.choice(JUNK)
    return record


def pairs(value: Any) -> list[tuple[Any, Any]]:
    """Every value inside a value, with its path."""
    found = []
    for path in places(value):
        inside = value
        for step in path:
            inside = inside[step]
        found.append((path, inside))
    return found


def damage_text(draw: random.Random, text: str) -> str:
    """Put a word anywhere, or in place of a character, or take a stretch out."""
    place = draw.randrange(len(text) + 1)
    return text[:place] + draw.choice((*WORDS, "")) + text[place + draw.choice((0, 0, 1, 2, 20)) :]


def damage_bytes(draw: random.Random, content: bytes) -> bytes:
    """Flip bits, cut, copy or put in bytes."""
    if not content:
        return draw.randbytes(4)
    data, place, length = bytearray(content), draw.randrange(len(content)), draw.choice((1, 2, 4, 16, 200))
    change = draw.randrange(7)
    if change <= 1:
        data[place] ^= 1 << draw.randrange(8)
    elif change == 2:
        del data[place:]
    elif change == 3:
        del data[place : place + length]
    elif change == 4:
        data[place:place] = data[place : place + length]
    elif change == 5:
        data[place:place] = draw.randbytes(length)
    else:
        data[place : place + length] = draw.choice((b"\0", b"\xff", b"\xed\xa0\x80", b"\xc0\xaf")) * length
    return bytes(data)


def choose_records(draw: random.Random, reader: str) -> list[Any]:
    """A few rows of a reader, most of them good."""
    if reader in GROUPS:
        bad_groups = [rows for rows, _, _ in GROUPS[reader].special.values()]
        groups = [GROUPS[reader].rows, *GROUPS[reader].good.values()]
        return [dict(row) for row in draw.choice(bad_groups if draw.random() < 0.1 else groups)]
    good = [row for name, row in GOOD_RECORDS.values() if name == reader]
    bad = [record.row for record in BAD_RECORDS.values() if record.reader == reader]
    count = draw.choice((1, 1, 2, 3, 9))
    return [dict(draw.choice(bad if draw.random() < 0.1 else good)) for _ in range(count)]


def as_parquet(draw: random.Random, records: Sequence[Any]) -> bytes:
    """The rows as a parquet file, without those that do not fit; written in one of several ways."""
    buffer = io.BytesIO()
    for kept in (records, records[:1], [{"instruction": "a", "response": "b"}]):
        try:
            table = pyarrow.Table.from_pylist([record for record in kept if isinstance(record, dict)])
            pyarrow.parquet.write_table(
                table,
                buffer,
                compression=draw.choice(("none", "snappy", "gzip", "zstd")),
                use_dictionary=draw.random() < 0.5,
                row_group_size=draw.choice((1, 2, 100)),
                write_page_checksum=draw.random() < 0.3,
                data_page_version=draw.choice(("1.0", "2.0")),
            )
            return buffer.getvalue()
        except (pyarrow.ArrowException, TypeError, ValueError, OverflowError, AttributeError):
            buffer = io.BytesIO()
    raise AssertionError("the last choice can be written")


def as_arrow(draw: random.Random, records: Sequence[Any]) -> bytes:
    """The rows as a stream or file of Arrow, without those that do not fit."""
    for kept in (records, records[:1], [{"instruction": "a", "response": "b"}]):
        buffer = io.BytesIO()
        try:
            table = pyarrow.Table.from_pylist([record for record in kept if isinstance(record, dict)])
            with draw.choice((pyarrow.ipc.new_stream, pyarrow.ipc.new_file))(buffer, table.schema) as writer:
                writer.write_table(table, max_chunksize=draw.choice((1, 2, 100)))
            return buffer.getvalue()
        except (pyarrow.ArrowException, TypeError, ValueError, OverflowError, AttributeError):
            continue
    raise AssertionError("the last choice can be written")


def as_workbook(draw: random.Random, records: Sequence[Any]) -> bytes:
    """The rows as a sheet, where a value that a cell cannot hold is written as JSON."""
    workbook, buffer = openpyxl.Workbook(), io.BytesIO()
    kept = [record for record in records if isinstance(record, dict)]
    columns = list(dict.fromkeys(str(key) for record in kept for key in record))
    rows = [[record.get(column) for column in columns] for record in kept]
    for row in [columns, *rows]:
        cells = [value if isinstance(value, str | bool) or value is None else json.dumps(value) for value in row]
        workbook.active.append([ILLEGAL.sub("", cell[:32_000]) if isinstance(cell, str) else cell for cell in cells])
    workbook.save(buffer)
    return buffer.getvalue()


def as_cells(draw: random.Random, records: Sequence[Any], delimiter: str) -> str:
    """The rows as a table of texts, where a value that is no text is written as JSON."""
    held = io.StringIO(newline="")
    kept = [record for record in records if isinstance(record, dict)]
    columns = list(dict.fromkeys(str(key) for record in kept for key in record))
    writer = csv.writer(held, delimiter=delimiter, quoting=draw.choice((csv.QUOTE_MINIMAL, csv.QUOTE_ALL)))
    writer.writerow(columns)
    for record in kept:
        texts = {str(key): value if isinstance(value, str) else json.dumps(value) for key, value in record.items()}
        writer.writerow([texts.get(column, "") for column in columns])
    return held.getvalue()


BINARY: dict[str, Callable[[random.Random, Sequence[Any]], bytes]] = {
    "a.parquet": as_parquet,
    "a.arrow": as_arrow,
    "a.xlsx": as_workbook,
}


def as_text(draw: random.Random, records: Sequence[Any], name: str) -> str:
    """The rows as the text of a file of that name."""
    if ".csv" in name or ".tsv" in name:
        return as_cells(draw, records, "\t" if ".tsv" in name else draw.choice(",;|"))
    if name.endswith(".txt"):
        return "\n\n".join(str(record) for record in records)
    lines = ".jsonl" in name
    texts = [json.dumps(record, ensure_ascii=draw.random() < 0.5) for record in records]
    return "".join(text + draw.choice(("\n", "\r\n", "\n\n")) for text in texts) if lines else f"[{','.join(texts)}]"


def make_input(draw: random.Random) -> tuple[str, str, bytes]:
    """Reader, file name and content of one damaged file."""
    reader, name = draw.choice(sorted(SETTINGS)), draw.choice(FORMS)
    records = choose_records(draw, reader)
    kinds = draw.choice(("value", "text", "bytes", "packed", "value text", "value bytes", "text packed", "none"))
    for _ in range(draw.choice((1, 1, 2, 5)) if "value" in kinds else 0):
        place = draw.randrange(len(records))
        damaged = damage_value(draw, records[place])
        records[place] = damaged if len(str(damaged)) < LARGEST else records[place]
    if name in BINARY:
        content = BINARY[name](draw, records)
        return reader, name, repeated(draw, damage_bytes, content) if kinds not in ("none", "value") else content
    text = as_text(draw, records, name)
    if "text" in kinds:
        text = repeated(draw, damage_text, text)
    content = text.encode("utf-8", "surrogatepass")
    if "bytes" in kinds:
        content = repeated(draw, damage_bytes, content)
    if name.endswith(".gz"):
        content = gzip.compress(content, draw.choice((0, 1, 9)), mtime=0)
        content = repeated(draw, damage_bytes, content) if "packed" in kinds else content
    return reader, name, content


def repeated(draw: random.Random, damage: Callable[[random.Random, Any], Any], content: Any) -> Any:
    """The damage done once or a few times."""
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        content = damage(draw, content)
    return content
