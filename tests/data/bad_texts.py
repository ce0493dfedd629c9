"""Families of bad files, made by rules: lines that are cut at every byte, every control character, every encoding.

Each family also holds good neighbours: files that look much like its bad ones and must be read.
"""

from __future__ import annotations

import datetime
import decimal
import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from tests.data.bad_files import GOOD, LINES, Bad, line, nested, parquet
from tunesmith.errors import DataError, MissingInputError, TunesmithError

Family = Iterator[tuple[str, Bad]]
Content = bytes | Callable[[Path], None]

MIXED = b'{"text": "a\\u00e9\\n\xc3\xa9", "number": -12.5e3, "yes": true, "nothing": null, "list": [{"a": []}, false]}'


def cut_lines() -> Family:
    """The last line cut after each of its bytes, and a line in the middle that goes on in the next one."""
    for length in range(1, len(MIXED)):
        inside = length == MIXED.index(b"\xc3") + 1
        says = "byte 0xc3" if inside else "breaks off"
        yield f"cut after {length} bytes", Bad("a.jsonl", LINES + MIXED[:length], says, "a.jsonl:2", good_rows=1)
        if length % 7 == 0 and not inside:
            broken = MIXED[:length] + b"\n" + MIXED[length:] + b"\n"
            yield f"broken after {length} bytes", Bad("a.jsonl", LINES + broken, says, "a.jsonl:2", good_rows=1)
            packed = gzip.compress(LINES + broken)
            yield f"broken after {length}, packed", Bad("a.jsonl.gz", packed, says, "a.jsonl.gz:2", good_rows=1)


def not_utf8() -> Family:
    """Broken UTF-8 at several offsets, in lines, lists and compressed files; the message has the offset in the file."""
    sequences = {
        "a continuation alone": b"\x80",
        "a byte that never occurs": b"\xfe",
        "the last byte value": b"\xff",
        "a start without its end": b"\xc3",
        "a sequence of three cut": b"\xe2\x82",
        "a sequence of four cut": b"\xf0\x9f\xa4",
        "an overlong slash": b"\xc0\xaf",
        "an overlong NUL": b"\xc0\x80",
        "an overlong sequence of three": b"\xe0\x80\xaf",
        "a surrogate": b"\xed\xa0\x80",
        "beyond the last character": b"\xf4\x90\x80\x80",
        "five bytes": b"\xf8\x88\x80\x80\x80",
    }
    for name, sequence in sequences.items():
        for before in (0, 1, 500, 2**20 + 3):
            record = b'{"a": "' + b"x" * before + sequence + b'"}'
            offset = len(LINES) + 7 + before
            says = f"byte 0x{sequence[0]:02x} at offset {offset:,} is not UTF-8"
            yield f"{name} after {before}", Bad("a.jsonl", LINES + record, says, "a.jsonl:2", good_rows=1)
        says = f"byte 0x{sequence[0]:02x} at offset {len(GOOD) + 10} is not UTF-8"
        content = b"[" + GOOD + b",\n" + b'{"a": "' + sequence + b'"}]'
        yield f"{name} in a list", Bad("a.json", content, says, "a.json:2")
        yield f"{name} in a packed list", Bad("a.json.gz", gzip.compress(content), says, "a.json.gz:2")
        yield f"{name} as a key", Bad("a.jsonl", b'{"' + sequence + b'": 1}', "at offset 2 is not", "a.jsonl:1")


def other_encodings() -> Family:
    """UTF-16 and UTF-32, either end first, with a mark and without, as lines and as a list, packed and not."""
    for encoding in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"):
        for mark in (True, False):
            for name, text in (("a.jsonl", LINES.decode()), ("a.json", f"[{GOOD.decode()}]")):
                content = (("\ufeff" if mark else "") + text).encode(encoding)
                says = f"is {encoding[:6].upper()}, not UTF-8" if mark else "has NUL bytes"
                marked = "with" if mark else "without"
                yield f"{name} in {encoding} {marked} a mark", Bad(name, content, says, f"{name}:1")
                packed = gzip.compress(content)
                yield f"{name}.gz in {encoding} {marked} a mark", Bad(f"{name}.gz", packed, says, f"{name}.gz:1")


def control_characters() -> Family:
    """Every raw control character in a text; the line feed ends the line."""
    for code in range(32):
        character = chr(code)
        if character == "\n":
            continue
        says = f"raw control character U+{code:04X}"
        record = '{"a": "b' + character + 'c"}'
        yield f"U+{code:04X}", Bad("a.jsonl", line(record), says, "a.jsonl:2", good_rows=1)
        yield f"U+{code:04X} in a list", Bad("a.json", f"[\n{record}]".encode(), says, "a.json:2[0]")
    for spelled in ("\\u0000", "\\u0000x", "x\\u0000"):
        for where, record in in_several_places(spelled):
            yield f"{spelled} {where}", Bad("a.jsonl", line(record), "NUL", "a.jsonl:2", good_rows=1)


def in_several_places(text: str) -> Iterator[tuple[str, str]]:
    """Records that hold a piece of JSON text as a value, a key, in a list and deep inside."""
    yield "as a value", f'{{"a": "{text}"}}'
    yield "as a key", f'{{"{text}": 1}}'
    yield "in a list", f'{{"a": ["b", "{text}"]}}'
    yield "deep inside", f'{{"a": [[{{"b": {{"c": "{text}"}}}}]]}}'


def half_characters() -> Family:
    for half in ("\\ud800", "\\uDBFF", "\\udc00", "\\uDFFF", "\\ud83d\\ud83d", "\\ude00\\ud83d", "\\ud83dx\\ude00"):
        for where, record in in_several_places(half):
            yield f"{half} {where}", Bad("a.jsonl", line(record), "lone surrogate", "a.jsonl:2", good_rows=1)
        yield f"{half} in a list", Bad("a.json", f'[\n{{"a": "{half}"}}]'.encode(), "lone surrogate", "a.json:2[0]")


def numbers() -> Family:
    """What Python's parser would take and others refuse, and what is no JSON at all."""
    wrong = {
        **{word: f"{word} is not a JSON number" for word in ("NaN", "Infinity", "-Infinity")},
        **dict.fromkeys(("1e309", "-1e309", "1e999999", "9" * 400 + ".0"), "too large"),
        **{"1" * 4301: "more than 4,300 digits", "-" + "9" * 5000: "more than 4,300 digits"},
        **dict.fromkeys(("+1", "01", ".5", "5.", "0x10", "1_000", "1e", "nan", "Inf", "-", "--1", "1:5"), "not JSON"),
        **dict.fromkeys(("True", "None", "undefined", "nul", "'a'", "a", "{1: 2}", "[1,]", "[,1]", "{,}"), "not JSON"),
    }
    for word, says in wrong.items():
        for where, record in (("a value", f'{{"a": {word}}}'), ("in a list", f'{{"a": [1, {word}], "b": 2}}')):
            yield f"{word[:12]} as {where}", Bad("a.jsonl", line(record), says, "a.jsonl:2", good_rows=1)
        yield (
            f"{word[:12]} in a file",
            Bad("a.json", f'[{{}},\n{{"a": {word}}}]'.encode(), says, "a.json:2[1]", good_rows=1),
        )


def equal_keys() -> Family:
    """Keys that are one key to some reader or other: by case, by compatibility form, by case folding."""
    twins = [("role", "role"), ("role", "ROLE"), ("role", "rolE"), ("fi", "\ufb01"), ("k", "\u212a"), ("s", "\u017f")]
    twins += [("ss", "\u00df"), ("\u00e9", "e\u0301"), ("\u00c5", "\u212b"), ("role", "\uff52ole"), ("1", "\u00b9")]
    for one, other in twins:
        says = f"key {other!r} occurs {'twice' if one == other else 'also as'}"
        name = f"{one} and {other}"
        record = f'{{"{one}": 1, "x": 2, "{other}": 3}}'
        yield name, Bad("a.jsonl", line(record), says, "a.jsonl:2", good_rows=1)
        yield f"{name}, inside", Bad("a.jsonl", line(f'{{"a": [{record}]}}'), says, "a.jsonl:2", good_rows=1)
        yield f"{name} in a file", Bad("a.json", f"[{{}},\n{record}]".encode(), says, "a.json:2[1]", good_rows=1)
        if one != other:
            table = pyarrow.table([pyarrow.array([1]), pyarrow.array([2])], names=[one, other])
            yield f"{name} as columns", Bad("a.parquet", parquet(table), says, "a.parquet:row 1")
            inside = pyarrow.StructArray.from_arrays([pyarrow.array([1]), pyarrow.array([2])], names=[one, other])
            yield f"{name} in a struct", Bad("a.parquet", parquet({"a": inside}), says, "a.parquet:row 1")


def depths() -> Family:
    for levels in (65, 66, 100, 1000, 20_000):
        shapes = {
            "lists": "[" * (levels - 1) + "]" * (levels - 1),
            "objects": '{"a":' * (levels - 1) + "1" + "}" * (levels - 1),
            "both": '[{"a":' * (levels // 2) + "1" + "}]" * (levels // 2),
        }
        for name, value in shapes.items():
            if name == "both" and levels % 2:
                continue
            record = f'{{"a": {value}}}'
            says = "nested deeper than 64 levels"
            yield f"{levels} {name}", Bad("a.jsonl", line(record), says, "a.jsonl:2", good_rows=1)
            yield f"{levels} {name} in a file", Bad("a.json", f"[\n{record}]".encode(), says, "a.json:2[0]")


def around_records() -> Family:
    """What stands before, between and after records."""
    good = GOOD.decode()
    for tail in (
        ",",
        ";",
        "]",
        "}",
        "[]",
        "null",
        "0",
        '"a"',
        "// a",
        "/* a */",
        "\x00",
        "\\n",
        "\u00a0",
        "\u2028",
        "\ufeff",
    ):
        says = "there is text after the object" if tail.strip("\u00a0\u2028\ufeff") else "invisible"
        yield f"{tail!r} after an object", Bad("a.jsonl", line(good + tail), says, "a.jsonl:2", good_rows=1)
        says = "there is text after the closing ]"
        yield f"{tail!r} after a list", Bad("a.json", f"[{good}]\n{tail}".encode(), says, "a.json:2", good_rows=1)
    for between in ("", " ", "\t", "\r"):
        says = "two objects on one line"
        yield (
            f"objects with {between!r} between",
            Bad("a.jsonl", line(good + between + good), says, "a.jsonl:2", good_rows=1),
        )
    for between in ("", "\n", ";", ":", "}", "\u2028", "null"):
        number = 1 + between.count("\n")
        says = "a comma or ] is missing before" if between != "\u2028" else "invisible character U+2028"
        content = f"[{good}{between}{good}]".encode()
        yield f"list with {between!r} between", Bad("a.json", content, says, f"a.json:{number}", good_rows=1)
    for whole in ("{}", good):
        yield f"{whole[:20]!r} as a list", Bad("a.json", whole.encode(), "holds a list of objects", "a.json:1")
    yield "lines as a list", Bad("a.json", f"{good}\n{good}".encode(), "has several objects, not one list", "a.json:1")
    for whole in ('"a"', "1", "null", "true"):
        yield f"{whole[:20]!r} as a list", Bad("a.json", whole.encode(), "is not a list", "a.json:1")
    for whole in (f"[{good}]", f"[\n{good}\n]", "[]", "[1]"):
        says = "is a list, not an object" if whole[1] != "\n" else "is a list"
        yield f"{whole[:8]!r} as lines", Bad("a.jsonl", whole.encode(), says, "a.jsonl:1")


def packed_files() -> Family:
    """Damaged gzip data; nothing of them may be used."""
    lines = b"".join(json.dumps({"a": f"{index * 7919 % 10007:x}"}).encode() + b"\n" for index in range(60))
    whole = gzip.compress(lines, mtime=0)
    for length in (1, 2, 3, 9, 10, 11, len(whole) // 2, len(whole) - 9, len(whole) - 8, len(whole) - 4, len(whole) - 1):
        says = "is not gzip data" if length < 2 else "the gzip data end too early"
        yield f"cut after {length}", Bad("a.jsonl.gz", whole[:length], says)
        if length > 1:
            yield (
                f"second member cut after {length}",
                Bad("a.jsonl.gz", whole + whole[:length], "the gzip data end too early"),
            )
    for position in (2, *range(10, len(whole), 29), *range(len(whole) - 8, len(whole))):
        damaged = bytearray(whole)
        damaged[position] ^= 0x40
        yield f"bit of byte {position}", Bad("a.jsonl.gz", bytes(damaged), "gzip data")
    for name, tail in (("text", b"more"), ("a line", LINES), ("zeros and text", b"\0\0\0x"), ("half a magic", b"\x1f")):
        yield f"{name} behind it", Bad("a.jsonl.gz", whole + tail, "gzip data")
    yield "packed twice", Bad("a.jsonl.gz", gzip.compress(whole), "is compressed with gzip twice")
    yield (
        "parquet, packed",
        Bad("a.jsonl.gz", gzip.compress(parquet({"a": ["b"]})), "is a parquet file compressed with gzip"),
    )
    for magic, name in ((b"PK\3\4", "zip"), (b"BZh9", "bzip2"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"\xfd7zXZ\0", "xz")):
        yield f"{name} named .gz", Bad("a.jsonl.gz", magic + lines, "is not gzip data")


def parquet_bomb(path: Path) -> None:
    """A small file that unpacks to 130 MB of spaces."""
    schema = pyarrow.schema([("a", pyarrow.string())])
    options = {"compression": "zstd", "use_dictionary": False, "write_statistics": False}
    with pyarrow.parquet.ParquetWriter(path, schema, **options) as writer:
        for _ in range(13):
            writer.write_table(pyarrow.table({"a": [" " * 10**7]}, schema=schema))


def columns() -> Family:
    """Columns of a parquet file that Python or the rules of records cannot hold."""
    odd: dict[str, tuple[Any, str]] = {
        "NaN": (pyarrow.array([float("nan")]), "NaN is not a JSON number"),
        "infinite": (pyarrow.array([float("inf")], pyarrow.float32()), "Infinity is not a JSON number"),
        "minus infinite": (pyarrow.array([[float("-inf")]]), "-Infinity is not a JSON number"),
        "a NaN in a struct": (pyarrow.array([{"b": float("nan")}]), "NaN is not a JSON number"),
        "a date too far": (pyarrow.array([2**30], pyarrow.date32()), "column 'a' cannot be read"),
        "a day too far": (pyarrow.array([86_400_000 * 10**7], pyarrow.date64()), "column 'a' cannot be read"),
        "NUL in a struct": (pyarrow.array([{"b": "c\0"}]), "NUL"),
        "NUL in a map": (pyarrow.array([[("b", "c\0")]], pyarrow.map_(pyarrow.string(), pyarrow.string())), "NUL"),
    }
    for name, (array, says) in odd.items():
        yield name, Bad("a.parquet", parquet({"a": array}), says, "a.parquet:row 1")
    twins = pyarrow.StructArray.from_arrays([pyarrow.array([1]), pyarrow.array([2])], names=["b", "b"])
    yield "fields of one name", Bad("a.parquet", parquet({"a": twins}), "column 'a' cannot be read", "a.parquet:row 1")
    same = pyarrow.table([pyarrow.array([1]), pyarrow.array([2])], names=["a", "a"])
    yield "columns of one name", Bad("a.parquet", parquet(same), "has two columns 'a'")
    text = parquet({"a": pyarrow.array(["Douro", "Tejo"])})
    where = "a.parquet:row 1"
    yield "bytes that are not UTF-8", Bad("a.parquet", text.replace(b"Douro", b"Dou\xff\xff"), "is not UTF-8", where)
    whole = parquet({"instruction": ["a"] * 50, "response": ["b"] * 50})
    for length in (4, 7, 8, 12, len(whole) // 2, len(whole) - 8, len(whole) - 4, len(whole) - 1):
        yield f"cut after {length}", Bad("a.parquet", whole[:length], "the parquet file is broken")
    for position in (len(whole) - 1, len(whole) - 4, len(whole) - 5, len(whole) - 8):
        damaged = bytearray(whole)
        damaged[position] ^= 0x40
        yield f"bit of byte {position}", Bad("a.parquet", bytes(damaged), "the parquet file is broken")
    yield "a bomb", Bad("a.parquet", parquet_bomb, "decompresses to more than 100 times")
    yield "arrow file", Bad("a.parquet", b"ARROW1\0\0" * 9, "is an Arrow file")
    yield "encrypted footer", Bad("a.parquet", b"PARE" + whole[4:-4] + b"PARE", "is not a valid parquet file")
    yield "parquet as .json", Bad("a.json", whole, "is a parquet file")


def whole_paths() -> Family:
    """Names behind which there is no file of records."""

    def folder_with(name: str) -> Callable[[Path], None]:
        def make(path: Path) -> None:
            path.mkdir()
            (path / name).mkdir()

        return make

    def two_links(path: Path) -> None:
        path.symlink_to("other.jsonl")
        (path.parent / "other.jsonl").symlink_to(path.name)

    def below_a_file(path: Path) -> None:
        path.parent.write_bytes(LINES)

    def missing(path: Path) -> None:
        """Nothing is made."""

    def found(name: str, make: Content, says: str) -> tuple[str, Bad]:
        return name, Bad(name, make, says, error=MissingInputError)

    yield found("two-links.jsonl", two_links, "cannot be read")
    yield found("folder-of-folders", folder_with("b"), "has no data files")
    yield found("folder-of-a-folder-with-a-suffix", folder_with("b.jsonl"), "has no data files")
    yield found("n" * 250 + ".jsonl.gz", missing, "cannot be read")
    yield found("nul\0in.jsonl", missing, "does not exist")
    yield found("file.jsonl/b.jsonl", below_a_file, "does not exist")
    error: type[TunesmithError] = DataError
    for suffix in (".csv", ".tsv", ".txt"):
        yield f"lines as a{suffix}", Bad(f"a{suffix}", LINES, "the file holds JSON Lines", f"a{suffix}:1", error=error)
    for suffix in (".zip", ".zst", ".bz2", ".xz", ".jsonl.zst", ".parquet.gz", ".json5"):
        yield f"a{suffix}", Bad(f"a{suffix}", LINES, "not read", error=error)
    yield "a.gz", Bad("a.gz", LINES, "does not say what is compressed", error=error)
    yield "a.arrow", Bad("a.arrow", LINES, "is not a valid Arrow file", error=error)


FAMILIES: dict[str, Callable[[], Family]] = {
    "cut line": cut_lines,
    "not UTF-8": not_utf8,
    "encoding": other_encodings,
    "control character": control_characters,
    "half a character": half_characters,
    "number": numbers,
    "equal keys": equal_keys,
    "depth": depths,
    "around records": around_records,
    "gzip": packed_files,
    "parquet": columns,
    "path": whole_paths,
}
BAD_TEXTS: dict[str, Bad] = {f"{family}: {name}": bad for family, make in FAMILIES.items() for name, bad in make()}

ALL_KINDS = {"a": "b", "n": 1, "x": 1.5, "yes": True, "none": None, "list": [[1], []], "object": {"c": {}}}
GOOD_TEXTS: dict[str, tuple[str, bytes, int]] = {  # name -> file, content, records
    "cut line: no line feed at the end": ("a.jsonl", LINES + MIXED, 2),
    "not UTF-8: every length of character": ("a.jsonl", '{"a": "é€🤖\U0010ffff\ufffd\ufffe"}'.encode(), 1),
    "encoding: UTF-8 with a mark": ("a.jsonl", b"\xef\xbb\xbf" + LINES * 2, 2),
    "encoding: a list with a mark": ("a.json", b"\xef\xbb\xbf[" + GOOD + b"]", 1),
    "control character: escaped ones": (
        "a.jsonl",
        b'{"a": "' + b"".join(b"\\u%04x" % code for code in range(1, 32)) + b'\x7f"}',
        1,
    ),
    "control character: an escaped backslash before u0000": ("a.jsonl", b'{"a": "\\\\u0000 \\\\ud800"}', 1),
    "control character: line ends that are none": ("a.jsonl", '{"a": "b\u2028c\u2029d\u0085e"}\r\n'.encode(), 1),
    "half a character: two halves": ("a.jsonl", b'{"a": "\\ud83d\\ude00", "\\uD83D\\uDE00": 1}', 1),
    "number: as large as may be": ("a.jsonl", b'{"a": [1.7e308, 1e-999, -0, ' + b"9" * 4300 + b"]}", 1),
    "equal keys: in different objects": ("a.jsonl", b'{"a": {"a": 1}, "b": [{"a": 1}, {"A": 2}], "\xc3\xa0": 2}', 1),
    "depth: 64 levels": ("a.jsonl", nested(63).encode(), 1),
    "depth: many lists beside each other": ("a.jsonl", b'{"a": [' + b"[]," * 5000 + b"[]]}", 1),
    "around records: blank lines": ("a.jsonl", b"\n \n\t\r\n" + LINES + b"\n\n" + LINES, 2),
    "around records: an empty object": ("a.jsonl", b"{}\n", 1),
    "around records: white space in a list": ("a.json", b" \r\n[ \t" + GOOD + b"\n,\n" + GOOD + b" ]\n ", 2),
    "gzip: two members and zeros": ("a.jsonl.gz", gzip.compress(LINES) * 2 + b"\0" * 9, 2),
    "gzip: with a name in its header": (
        "a.jsonl.gz",
        b"\x1f\x8b\x08\x08" + b"\0" * 6 + b"n\0" + gzip.compress(LINES)[10:],
        1,
    ),
    "parquet: all kinds of values": (
        "a.parquet",
        parquet(pyarrow.Table.from_pylist([{**ALL_KINDS, "object": {"c": 1}}] * 3)),
        3,
    ),
    "parquet: dates, decimals and bytes": (
        "a.parquet",
        parquet({"a": [datetime.date(2024, 2, 29)], "b": [decimal.Decimal("1.5")], "c": [b"\xff"], "d": ["e"]}),
        1,
    ),
    "path: a suffix in capitals": ("A.JSONL", LINES, 1),
    "path: other dots in the name": ("a.v1.2.jsonl", LINES, 1),
}
