"""Files that must be refused, each with the error, the place and the words that are expected. Generated, not stored."""

from __future__ import annotations

import gzip
import io
import json
import os
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from tunesmith.errors import DataError, MissingInputError, TunesmithError

GOOD = b'{"instruction": "Name a river.", "context": "", "response": "The Douro."}'
LINES = GOOD + b"\n"


@dataclass(frozen=True)
class Bad:
    """A file of that name with that content (or made by a function), what is raised, where and in which words."""

    name: str
    content: bytes | Callable[[Path], None]
    says: str
    where: str = ""
    error: type[TunesmithError] = DataError
    good_rows: int = 0

    def write(self, directory: Path) -> Path:
        path = directory / self.name
        if callable(self.content):
            self.content(path)
        else:
            path.write_bytes(self.content)
        return path


def parquet(table: Mapping[str, Any] | pyarrow.Table) -> bytes:
    """The bytes of a parquet file."""
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(table if isinstance(table, pyarrow.Table) else pyarrow.table(dict(table)), buffer)
    return buffer.getvalue()


def cut_parquet(keep: float) -> bytes:
    whole = parquet({"instruction": ["a"] * 50, "response": ["b"] * 50})
    return whole[: int(len(whole) * keep)]


def header_only(names: int) -> bytes:
    """A gzip header whose flags promise a name that never ends."""
    return b"\x1f\x8b\x08\x08\0\0\0\0\0\3" + b"n" * names


def with_wrong_checksum(content: bytes) -> bytes:
    packed = bytearray(gzip.compress(content))
    packed[-8] ^= 1
    return bytes(packed)


def with_wrong_length(content: bytes) -> bytes:
    packed = bytearray(gzip.compress(content))
    packed[-4] ^= 1
    return bytes(packed)


def with_flipped_bit(content: bytes) -> bytes:
    packed = bytearray(gzip.compress(content))
    packed[len(packed) // 2] ^= 16
    return bytes(packed)


def bomb(path: Path) -> None:
    """A small file that unpacks to 150 MB of spaces."""
    compressor = zlib.compressobj(9, wbits=31)
    with path.open("wb") as file:
        for _ in range(150):
            file.write(compressor.compress(b" " * 2**20))
        file.write(compressor.flush())


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def broken_link(path: Path) -> None:
    path.symlink_to("nowhere.jsonl")


def line(text: str) -> bytes:
    """A good line, then this one."""
    return LINES + text.encode() + b"\n"


def nested(levels: int) -> str:
    return '{"a": ' + "[" * levels + "]" * levels + "}"


def extension_column() -> pyarrow.Table:
    return pyarrow.table({"instruction": pyarrow.array(["a"]), "tag": pyarrow.array([b"0" * 16], type=pyarrow.uuid())})


def two_columns_of_one_name() -> pyarrow.Table:
    return pyarrow.table([pyarrow.array(["a"]), pyarrow.array(["b"])], names=["role", "Role"])


HALF = '{"instruction": "\\ud83d", "response": "b"}'
BROKEN_JSON = {  # text of the second line -> what is said
    "nothing but a word": ("hello", "not JSON"),
    "a number": ("12", "is a number, not an object"),
    "a text": ('"hello"', "is text, not an object"),
    "null": ("null", "is null, not an object"),
    "true": ("true", "is true or false, not an object"),
    "a list": ('["a"]', "is a list, not an object"),
    "the beginning of a list": ("[", "is a list, not an object"),
    "cut in a text": ('{"instruction": "Name', "breaks off"),
    "cut in an escape": ('{"instruction": "Name\\u00', "breaks off"),
    "cut after a key": ('{"instruction":', "breaks off"),
    "cut after a value": ('{"instruction": "a"', "breaks off"),
    "cut after a comma": ('{"instruction": "a",', "breaks off"),
    "cut in a word": ('{"instruction": tru', "breaks off"),
    "cut in a number": ('{"instruction": 12', "breaks off"),
    "a trailing comma": ('{"instruction": "a",}', "not JSON"),
    "a comma after the object": (GOOD.decode() + ",", "there is text after the object"),
    "two objects": (GOOD.decode() * 2, "two objects on one line"),
    "two objects and a space": (f"{GOOD.decode()} {GOOD.decode()}", "two objects on one line"),
    "two objects and a carriage return": (f"{GOOD.decode()}\r{GOOD.decode()}", "two objects on one line"),
    "single quotes": ("{'instruction': 'a'}", "not JSON"),
    "a comment": ('{"instruction": "a"} // b', "there is text after the object"),
    "NaN": ('{"score": NaN}', "NaN is not a JSON number"),
    "Infinity": ('{"score": Infinity}', "Infinity is not a JSON number"),
    "minus Infinity": ('{"score": -Infinity}', "-Infinity is not a JSON number"),
    "a number that overflows": ('{"score": 1e999}', "too large"),
    "a number of 5,000 digits": ('{"score": ' + "1" * 5000 + "}", "more than 4,300 digits"),
    "a key twice": ('{"role": "user", "role": "system"}', "key 'role' occurs twice"),
    "a key twice, deep inside": ('{"a": [{"role": "user", "role": "user"}]}', "key 'role' occurs twice"),
    "a key in two cases": ('{"role": "user", "Role": "system"}', "key 'Role' occurs also as 'role'"),
    "a key in two forms": ('{"role": "user", "\uff52ole": "system"}', "occurs also as 'role'"),
    "half a character": (HALF, "lone surrogate"),
    "half a character in a key": ('{"\\udc00": "a"}', "lone surrogate"),
    "two halves in the wrong order": ('{"a": "\\ude00\\ud83d"}', "lone surrogate"),
    "an escaped NUL": ('{"instruction": "a\\u0000b"}', "NUL"),
    "a raw NUL": ('{"instruction": "a\0b"}', "raw control character U+0000"),
    "a raw tab": ('{"instruction": "a\tb"}', "raw control character U+0009"),
    "a raw escape": ('{"instruction": "a\x1bb"}', "raw control character U+001B"),
    "an unknown escape": ('{"instruction": "\\x41"}', "not JSON"),
    "65 levels": (nested(65), "nested deeper than 64 levels"),
    "100,000 levels": (nested(100_000), "nested deeper than 64 levels"),
    "a byte order mark in the middle": ("\ufeff" + GOOD.decode(), "the invisible mark U+FEFF"),
    "a record of 17 MiB": ('{"a": "' + "x" * (17 * 2**20) + '"}', "longer than 16 MiB"),
}
BROKEN_UTF8 = {
    "a stray byte": b'{"instruction": "\xff"}',
    "a sequence that is cut": b'{"instruction": "\xe2\x82"}',
    "an overlong form": b'{"instruction": "\xc0\xaf"}',
    "a surrogate in UTF-8": b'{"instruction": "\xed\xa0\x80"}',
    "Latin-1": '{"instruction": "Käse"}'.encode("latin-1"),
}
BAD_LISTS = {  # content of a .json file -> (line, what is said)
    "an object": (GOOD, 1, "none of its keys (instruction, context, response) holds a list of objects"),
    "an object without keys": (b"{}", 1, "none of its keys (it has none) holds"),
    "lines": (LINES * 2, 1, "has several objects"),
    "one conversation": (b'{"messages": [{"role": "user", "content": "a"}]}', 1, "is one record"),
    "lines of conversations": (b'{"conversations": [{"from": "human", "value": "a"}]}\n' * 2, 1, "has several objects"),
    "an object that is cut": (b'{"version": 1, "data": [\n' + GOOD + b"],", 2, "breaks off"),
    "an object that is never closed": (b'{"data": [\n' + GOOD + b"]\n", 3, "never closed with }"),
    "an object without a colon": (b'{"data" [\n' + GOOD + b"]}", 1, "':' is missing before '['"),
    "an object with a wrong value": (b'{"version": tru, "data": [\n' + GOOD + b"]}", 1, "not JSON"),
    "an object with a key twice": (b'{"data": [\n' + GOOD + b'],\n"data": 1}', 3, "occurs twice"),
    "a list of objects and texts under a key": (b'{"data": [\n' + GOOD + b',\n"a"]}', 3, "has text in it"),
    "something after the object": (b'{"data": [\n' + GOOD + b"]}\n[]", 3, "there is text after the closing }"),
    "a word": (b"hello", 1, "is not a list"),
    "a list of texts": (b'["a"]', 1, "the list has text in it, not an object"),
    "a list of lists": (b"[[]]", 1, "the list has a list in it, not an object"),
    "never closed": (b"[\n" + GOOD, 2, "never closed"),
    "cut after a comma": (b"[\n" + LINES + b",", 3, "breaks off"),
    "cut in a record": (b"[\n" + GOOD + b",\n" + GOOD[:30], 3, "breaks off"),
    "only opened": (b"[", 1, "breaks off"),
    "no comma": (b"[\n" + GOOD + b"\n" + GOOD + b"]", 3, "a comma or ] is missing before '{'"),
    "a trailing comma": (b"[\n" + GOOD + b",\n]", 3, "a comma before the closing ]"),
    "two commas": (b"[\n" + GOOD + b",,\n" + GOOD + b"]", 2, "not JSON"),
    "something after it": (b"[\n" + GOOD + b"\n]\n[]", 4, "there is text after"),
    "NaN": (b'[\n{"a": 1},\n{"a": NaN}]', 3, "NaN is not a JSON number"),
    "a key twice": (b'[\n{"a": 1},\n{"a": 1, "a": 2}]', 3, "occurs twice"),
    "half a character": (b"[\n" + HALF.encode() + b"]", 2, "lone surrogate"),
    "a raw line break in a text": (b'[\n{"a": "b\nc"}]', 2, "raw control character U+000A"),
    "bad UTF-8": (b"[\n" + GOOD + b',\n{"a": "\xff"}]', 3, "byte 0xff at offset"),
    "UTF-8 that is cut at the end": (b'[{"a": "\xe2\x82', 1, "byte 0xe2 at offset 8"),
    "65 levels": (b"[\n" + nested(65).encode() + b"]", 2, "nested deeper"),
    "100,000 levels": (b"[\n" + nested(100_000).encode() + b"]", 2, "nested deeper"),
    "a record of 17 MiB": (b'[\n{"a": "' + b"x" * (17 * 2**20) + b'"}]', 2, "longer than 16 MiB"),
    "a text of 40 MiB that never ends": (b'[\n{"a": "' + b"x" * (40 * 2**20), 2, "longer than 16 MiB"),
}
AFTER_A_RECORD = {
    *("never closed", "cut after a comma", "cut in a record", "no comma", "a trailing comma", "two commas"),
    *("something after it", "NaN", "a key twice", "an object that is cut", "an object that is never closed"),
    *("an object with a key twice", "a list of objects and texts under a key", "something after the object"),
}
WHOLE_FILES: dict[str, Bad] = {
    "missing": Bad("gone.jsonl", lambda path: None, "does not exist", error=MissingInputError),
    "broken link": Bad("link.jsonl", broken_link, "does not exist", error=MissingInputError),
    "link to itself": Bad("loop.jsonl", loop, "cannot be read", error=MissingInputError),
    "pipe": Bad("pipe.jsonl", lambda path: os.mkfifo(path), "not a regular file", error=MissingInputError),
    "empty directory": Bad("folder", lambda path: path.mkdir(), "has no data files", error=MissingInputError),
    "empty .jsonl": Bad("a.jsonl", b"", "is empty", error=MissingInputError),
    "empty .json": Bad("a.json", b"", "is empty", error=MissingInputError),
    "empty .gz": Bad("a.jsonl.gz", b"", "is empty", error=MissingInputError),
    "empty .parquet": Bad("a.parquet", b"", "is empty", error=MissingInputError),
    "only blank lines": Bad("a.jsonl", b"\n\n  \r\n\n", "has no records", error=MissingInputError),
    "only a byte order mark": Bad("a.jsonl", b"\xef\xbb\xbf", "has no records", error=MissingInputError),
    "an empty list": Bad("a.json", b"[ ]\n", "has no records", error=MissingInputError),
    "only white space": Bad("a.json", b"  \n ", "has no records", error=MissingInputError),
    "empty once unpacked": Bad("a.jsonl.gz", gzip.compress(b""), "has no records", error=MissingInputError),
    "parquet without rows": Bad(
        "a.parquet",
        parquet({"instruction": pyarrow.array([], pyarrow.string())}),
        "no records",
        error=MissingInputError,
    ),
    "unknown suffix": Bad("a.dat", LINES, "files that end in .dat are not read"),
    "no suffix": Bad("data", LINES, "has no suffix"),
    "only .gz": Bad("a.gz", gzip.compress(LINES), "does not say what is compressed"),
    "parquet in gzip": Bad("a.parquet.gz", gzip.compress(LINES), "a .parquet.gz file is not read"),
    "an archive in gzip": Bad("a.tar.gz", gzip.compress(LINES), "a .tar.gz file is not read"),
    **{
        f"a {suffix} file": Bad(f"a{suffix}", LINES, f" {suffix} file is not read")
        for suffix in (".xls", ".ods", ".doc", ".docx", ".pdf", ".pkl", ".pt", ".zip", ".md", ".html", ".sqlite", ".xz")
    },
    "a pickle under another name": Bad("a.jsonl", b"\x80\x04\x95\x0b\0\0\0", "is a pickle"),
    "a PDF under another name": Bad("a.txt", b"%PDF-1.7 and so on", "is a PDF document"),
    "an old Office file under another name": Bad("a.xlsx", b"\xd0\xcf\x11\xe0" + b"a" * 50, "encrypted Office file"),
    "a workbook under another name": Bad("a.csv", b"PK\x03\x04" + b"a" * 50, "is a zip archive"),
    "a pointer of Git LFS": Bad("a.parquet", b"version https://git-lfs.github.com/spec/v1\n", "pointer of Git LFS"),
    "gzip under another name": Bad("a.jsonl", gzip.compress(LINES), "gzip data under another name"),
    "not gzip": Bad("a.jsonl.gz", LINES, "not gzip data"),
    "parquet under another name": Bad("a.jsonl", parquet({"a": ["b"]}), "is a parquet file"),
    "text as parquet": Bad("a.parquet", LINES, "not a valid parquet file"),
    "UTF-16": Bad("a.jsonl", "{}".encode("utf-16"), "is UTF-16", "a.jsonl:1"),
    "UTF-16, big end first": Bad("a.json", b"\xfe\xff" + "[]".encode("utf-16-be"), "is UTF-16", "a.json:1"),
    "UTF-32": Bad("a.jsonl", "{}".encode("utf-32"), "is UTF-32", "a.jsonl:1"),
    "UTF-16 without a mark": Bad("a.jsonl", LINES.decode().encode("utf-16-le"), "has NUL bytes", "a.jsonl:1"),
    "UTF-16 in gzip": Bad("a.jsonl.gz", gzip.compress("{}".encode("utf-16")), "is UTF-16", "a.jsonl.gz:1"),
    "wrong checksum": Bad("a.jsonl.gz", with_wrong_checksum(LINES * 9), "damaged (crc check failed"),
    "wrong length": Bad("a.jsonl.gz", with_wrong_length(LINES * 9), "damaged (incorrect length"),
    "flipped bit": Bad("a.jsonl.gz", with_flipped_bit(os.urandom(64).hex().encode()), "damaged"),
    "trailing garbage": Bad("a.jsonl.gz", gzip.compress(LINES) + b"garbage", "damaged"),
    "second member cut": Bad("a.jsonl.gz", gzip.compress(LINES) * 2 + gzip.compress(LINES)[:-3], "end too early"),
    "unknown compression": Bad("a.jsonl.gz", b"\x1f\x8b\x07" + gzip.compress(LINES)[3:], "damaged"),
    "a header without end": Bad("a.jsonl.gz", header_only(50), "end too early"),
    "bomb": Bad("a.jsonl.gz", bomb, "decompresses to more than 100 times"),
    "parquet cut": Bad("a.parquet", cut_parquet(0.7), "the parquet file is broken"),
    "parquet without footer": Bad("a.parquet", b"PAR1" * 2, "the parquet file is broken"),
    "parquet with a wrong footer": Bad("a.parquet", b"PAR1" + b"\xff" * 60 + b"PAR1", "the parquet file is broken"),
    "parquet with an extension type": Bad(
        "a.parquet", parquet(extension_column()), "column 'tag' has an extension type"
    ),
    "parquet, a column in two cases": Bad("a.parquet", parquet(two_columns_of_one_name()), "occurs also as", "row 1"),
    "parquet, NUL in a text": Bad("a.parquet", parquet({"a": ["b", "c\0d"]}), "NUL", "a.parquet:row 2", good_rows=1),
}

HEADER = b"question,answer\n"
ROW = b"Name a river.,The Douro.\n"
TABLES: dict[str, tuple[bytes, int, str, int]] = {  # content, line, what is said, rows before it
    "a name twice": (b"question,question\n" + ROW, 1, "key 'question' occurs twice in the header", 0),
    "a name in two cases": (b"question,Question\n" + ROW, 1, "occurs also as 'question' in the header", 0),
    "an invisible character in a name": (b"question,answer\xe2\x80\x8b\n" + ROW, 1, "invisible character U+200B", 0),
    "NUL in a name": (b"question,an\0swer\n" + ROW, 1, "NUL", 0),
    "two possible delimiters": (b"question;answer,best\n" + ROW, 1, "could be divided by ',' or by ';'", 0),
    "a cell too many": (HEADER + ROW + b"a,b,c\n" + ROW, 3, "has 3 cells, and the header names 2 columns", 1),
    "a cell too few": (HEADER + ROW + b"a\n" + ROW, 3, "has 1 cell, and the header names 2 columns", 1),
    "a delimiter after each cell": (HEADER + b"a,b,\n", 2, "has 3 cells, and the header names 2 columns", 0),
    "text after a quote": (HEADER + ROW + b'"a" b,c\n' + ROW, 3, "text after the quote that closes a cell", 1),
    "a single quote inside quotes": (HEADER + b'"say "x" now",c\n', 2, "text after the quote", 0),
    "an open quote": (HEADER + ROW + b'a,"b\n' + ROW, 3, 'a quote (") opens a cell and is never closed', 1),
    "an open quote in the header": (b'question,"answer\n' + ROW, 1, "is never closed", 0),
    "NUL in a cell": (HEADER + ROW + b"a,b\0\n", 3, "NUL", 1),
    "carriage returns only": (HEADER.replace(b"\n", b"\r") + b"a,b\r", 1, "carriage return", 0),
    "Latin-1": (HEADER + ROW + b"caf\xe9,b\n", 3, "byte 0xe9 at offset 44 is not UTF-8", 0),
    "UTF-16": ("a,b\n".encode("utf-16"), 1, "is UTF-16", 0),
    "JSON Lines": (LINES, 1, "holds JSON Lines, not a table", 0),
    "a JSON list": (b"\n [" + GOOD + b"]", 2, "holds a JSON list, not a table", 0),
    "an HTML page": (b"<!DOCTYPE html>\n<html></html>", 1, "holds an HTML page, not a table", 0),
    "a cell of 17 MiB": (HEADER + ROW + b'"' + b"a" * (17 * 2**20) + b'",b\n', 3, "longer than 16 MiB", 1),
    "an open quote and 17 MiB": (HEADER + ROW + b'"' + b"some words\n" * 1_700_000, 3, "longer than 16 MiB", 1),
}
BAD_TABLES: dict[str, Bad] = {
    **{
        f"table with {name}": Bad("a.csv", content, says, f"a.csv:{number}", good_rows=good)
        for name, (content, number, says, good) in TABLES.items()
    },
    **{
        f"packed table with {name}": Bad(
            "a.csv.gz", gzip.compress(content, 1), says, f"a.csv.gz:{number}", good_rows=good
        )
        for name, (content, number, says, good) in TABLES.items()
        if len(content) < 2**20 and name != "UTF-16"
    },
    "tabs: a cell too many": Bad("a.tsv", b"a\tb\nc\td\te\n", "has 3 cells", "a.tsv:2"),
    "table without rows": Bad("a.csv", HEADER + b"\n,\n", "has no records", error=MissingInputError),
    "table of blank lines": Bad("a.csv", b"\n \n", "has no records", error=MissingInputError),
    "empty table": Bad("a.csv", b"", "is empty", error=MissingInputError),
    "paragraph with NUL": Bad("a.txt", b"one\n\ntwo\0\n\nthree", "NUL", "a.txt:3", good_rows=1),
    "paragraph of 17 MiB": Bad(
        "a.txt", b"one\n\n" + b"words\n" * 3_000_000, "longer than 16 MiB", "a.txt:3", good_rows=1
    ),
    "paragraphs of JSON": Bad("a.txt", b"\n" + LINES, "holds JSON Lines, not plain text", "a.txt:2"),
    "paragraphs in Latin-1": Bad("a.txt", b"one\n\ncaf\xe9s", "byte 0xe9 at offset 8 is not UTF-8", "a.txt:3"),
    "text of blank lines": Bad("a.txt", b"\n \n\t\n", "has no records", error=MissingInputError),
}

BAD_FILES: dict[str, Bad] = {
    **WHOLE_FILES,
    **BAD_TABLES,
    **{
        f"line with {name}": Bad("a.jsonl", line(text), says, "a.jsonl:2", good_rows=1)
        for name, (text, says) in BROKEN_JSON.items()
    },
    **{
        f"packed line with {name}": Bad("a.jsonl.gz", gzip.compress(line(text), 1), says, "a.jsonl.gz:2", good_rows=1)
        for name, (text, says) in BROKEN_JSON.items()
        if len(text) < 2**20
    },
    **{
        f"line with {name}": Bad("a.jsonl", LINES + content, "is not UTF-8", "a.jsonl:2", good_rows=1)
        for name, content in BROKEN_UTF8.items()
    },
    **{
        f"list: {name}": Bad("a.json", content, says, f"a.json:{number}", good_rows=int(name in AFTER_A_RECORD))
        for name, (content, number, says) in BAD_LISTS.items()
    },
    "last line cut": Bad("a.jsonl", LINES * 2 + GOOD[:20], "breaks off", "a.jsonl:3", good_rows=2),
    "after blank lines": Bad("a.jsonl", b"\n\n" + LINES + b"\r\n{", "breaks off", "a.jsonl:5", good_rows=1),
    "line with a byte order mark, then a fault": Bad("a.jsonl", b"\xef\xbb\xbf\xff", "at offset 3 is", "a.jsonl:1"),
}


def packed_lines(records: list[dict[str, Any]]) -> bytes:
    return gzip.compress("".join(json.dumps(record) + "\n" for record in records).encode())
