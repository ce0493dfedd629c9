"""Kinds of input files: what the name implies, what the first bytes are, and what to do with other kinds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from tunesmith.errors import DataError

FileKind = Literal["json", "jsonl", "csv", "tsv", "txt", "parquet", "xlsx", "arrow"]
SUFFIXES: Mapping[str, FileKind] = {
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".txt": "txt",
    ".parquet": "parquet",
    ".xlsx": "xlsx",
    ".xlsm": "xlsx",
    ".arrow": "arrow",
}
BINARY: tuple[FileKind, ...] = ("parquet", "xlsx", "arrow")
"""Kinds that are no text. They are compressed inside, and not read from .gz."""

PARTS: Mapping[FileKind, str] = {"xlsx": "sheet", "json": "list"}
"""Kinds of files that may have several parts with records, and what a part is called."""

KNOWN_SUFFIXES = ".jsonl, .json, .csv, .tsv, .xlsx, .parquet, .arrow, .txt, or .gz of the text files"

TABLE = "save the table as .xlsx or .csv"
DOCUMENT = "save its text as .txt, or its records as .csv, .xlsx or .jsonl"
CODE = "opening it could run any program, so it is never read; write the records as .jsonl"
PACKED = "unpack it, and name the file or the directory that was in it"
COMPRESSED = "decompress it; of compressed files only .gz is read"

OTHERS: Mapping[str, str] = {
    **dict.fromkeys((".xls", ".xlsb", ".ods", ".numbers", ".gsheet", ".feather", ".orc", ".dta", ".sav"), TABLE),
    **dict.fromkeys((".doc", ".docx", ".odt", ".rtf", ".pdf", ".ppt", ".pptx", ".epub"), DOCUMENT),
    **dict.fromkeys((".html", ".htm", ".xml", ".tex"), DOCUMENT),
    **dict.fromkeys((".md", ".markdown", ".rst", ".log", ".text"), "let its name end in .txt if it is plain text"),
    **dict.fromkeys((".yaml", ".yml", ".toml"), "write the records as .jsonl, one JSON object a line"),
    **dict.fromkeys((".db", ".sqlite", ".sqlite3", ".sql"), "export the table as .csv"),
    **dict.fromkeys((".pkl", ".pickle", ".joblib", ".pt", ".pth", ".npy", ".npz", ".h5", ".rds", ".rdata"), CODE),
    **dict.fromkeys((".zip", ".tar", ".tgz", ".7z", ".rar"), PACKED),
    **dict.fromkeys((".zst", ".bz2", ".xz", ".lz4"), COMPRESSED),
}
"""Suffixes of files that people have and that are not read, with what to do."""

GZIP = b"\x1f\x8b"
SIGNATURES: tuple[tuple[bytes, FileKind | None, str, str], ...] = (
    (b"PAR1", "parquet", "a parquet file", "let its name end in .parquet"),
    (b"PK\x03\x04", "xlsx", "a zip archive", "an Excel workbook ends in .xlsx; unpack any other archive"),
    (b"ARROW1\0\0", "arrow", "an Arrow file", "let its name end in .arrow"),
    (b"\xff\xff\xff\xff", "arrow", "an Arrow stream", "let its name end in .arrow"),
    (b"%PDF-", None, "a PDF document", DOCUMENT),
    (b"\xd0\xcf\x11\xe0", None, "an old or encrypted Office file", "save the table as .xlsx without a password"),
    (b"SQLite format 3", None, "an SQLite database", "export the table as .csv"),
    *((bytes((128, protocol)), None, "a pickle", CODE) for protocol in (2, 3, 4, 5)),
    (b"version https://git-lfs", None, "a pointer of Git LFS, not the data", "run `git lfs pull` in its repository"),
)
"""First bytes of files that are no text: the kind that they belong to, what the file is, and what to do.

No text of UTF-8 begins with the mark of a pickle, 0x80.
"""

HEAD = max(len(signature) for signature, *_ in SIGNATURES)  # bytes that are looked at
NAMES: Mapping[FileKind, str] = {"parquet": "parquet file", "xlsx": "Excel workbook", "arrow": "Arrow file"}


def file_kind(path: Path) -> tuple[FileKind, bool] | None:
    """The kind that the name implies, and whether it is compressed; None for a name with an unknown suffix."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    compressed = bool(suffixes) and suffixes[-1] == ".gz"
    kind = SUFFIXES.get(suffixes[-2] if compressed and len(suffixes) == 2 else suffixes[-1]) if suffixes else None
    return None if kind is None or (compressed and kind in BINARY) else (kind, compressed)


def is_named_like_a_file(path: Path) -> bool:
    """Whether the suffix is one of a file, read or not, so that the name can be no name of the hub."""
    suffix = path.suffix.lower()
    return suffix == ".gz" or suffix in SUFFIXES or suffix in OTHERS


def unknown_kind(path: Path) -> DataError:
    """The error of a file whose name has none of the suffixes."""
    suffix = path.suffix.lower()
    if suffix == ".gz":
        inner = Path(path.stem).suffix.lower()
        if inner == ".tar":
            return DataError("a .tar.gz file is not read", where=path, advice=PACKED)
        if inner in SUFFIXES:
            return DataError(f"a {inner}.gz file is not read", where=path, advice=f"decompress it to {inner}")
        advice = "let its name end in .jsonl.gz, .json.gz, .csv.gz, .tsv.gz or .txt.gz"
        return DataError("the name does not say what is compressed in the file", where=path, advice=advice)
    if suffix in OTHERS:
        article = "an" if suffix == ".xls" else "a"
        return DataError(f"{article} {suffix} file is not read", where=path, advice=OTHERS[suffix])
    what = f"files that end in {suffix[:20]} are not read" if suffix else "the name of the file has no suffix"
    return DataError(what, where=path, advice=f"let it end in what it holds: {KNOWN_SUFFIXES}")


def check_head(path: Path, kind: FileKind, compressed: bool, head: bytes) -> None:
    """Compare the first bytes of a file with what its name implies. Raises DataError."""
    is_gzip = head.startswith(GZIP)
    if compressed:
        if not is_gzip:
            advice = "remove .gz from its name, or download it again"
            raise DataError("the file is not gzip data", where=path, advice=advice)
        return
    if is_gzip:
        raise DataError("the file is gzip data under another name", where=path, advice="let its name end in .gz")
    for signature, found, name, advice in SIGNATURES:
        if head.startswith(signature) and found != kind:
            raise DataError(f"the file is {name}", where=path, advice=advice)
    if kind in BINARY and not any(head.startswith(signature) for signature, found, *_ in SIGNATURES if found == kind):
        advice = "correct its name, or download it again"
        raise DataError(f"this is not a valid {NAMES[kind]}", where=path, advice=advice)
