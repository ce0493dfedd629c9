"""Directories as sources: data files next to each other, or a dataset that the package ``datasets`` saved."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tunesmith.data.sources.files import InputFile, find_file, read_errors
from tunesmith.data.sources.kinds import file_kind
from tunesmith.data.sources.records import SeveralPartsError
from tunesmith.errors import DataError, MissingInputError
from tunesmith.files import read_object

SPLITS, STATE, INFORMATION = "dataset_dict.json", "state.json", "dataset_info.json"
SAVE_AGAIN = "save it again with save_to_disk"
ABOUT_DATA = re.compile(r"(readme|license|licence|copying|notice|changelog|citation|authors|requirements)\b.*", re.I)
"""Names of texts that describe data and are none, whatever their suffix."""
HIDDEN = (".", "~$")  # how names begin that people do not see, such as the lock files of office programs
SHOWN_NAMES = 5


class DirectoryFiles(NamedTuple):
    """What is read of a directory.

    files: in the order in which they are read.
    left_out: names of the files and directories in it that are not read; directories end in a slash.
    """

    files: tuple[InputFile, ...]
    left_out: tuple[str, ...] = ()


def find_directory(path: Path, split: str | None) -> DirectoryFiles:
    """The files of a directory.

    split: of a saved dataset, or None.
    Raises MissingInputError, DataError, and SeveralPartsError where a split has to be chosen or does not exist.
    """
    with read_errors(path):
        names = {item.name for item in path.iterdir()}
    if SPLITS in names:
        return _saved_splits(path, split)
    if STATE in names and INFORMATION in names:
        return _saved_dataset(path, split)
    return _data_files(path, split)


def _data_files(path: Path, part: str | None) -> DirectoryFiles:
    """The data files directly in a directory, sorted by name. Texts (.txt) count only where nothing else is there."""
    with read_errors(path):
        items = sorted(item for item in path.iterdir() if not item.name.startswith(HIDDEN))
        directories = {item for item in items if item.is_dir()}
    kinds = {item: file_kind(item) for item in items if item not in directories and not ABOUT_DATA.match(item.name)}
    chosen = [item for item, kind in kinds.items() if kind is not None and kind[0] != "txt"]
    chosen = chosen or [item for item, kind in kinds.items() if kind is not None]
    left_out = tuple(f"{item.name}/" if item in directories else item.name for item in items if item not in chosen)
    if not chosen:
        only = f", only {shown_names(left_out)}" if left_out else ""
        advice = "they end in .jsonl, .json, .csv, .tsv, .xlsx, .parquet, .arrow or .txt; folders inside are not read"
        raise MissingInputError(f"the directory has no data files{only}", where=path, advice=advice)
    return DirectoryFiles(tuple(find_file(item, part) for item in chosen), left_out)


def _saved_splits(path: Path, split: str | None) -> DirectoryFiles:
    """The files of one split of a ``DatasetDict`` that was saved."""
    splits = _plain_names(path / SPLITS, read_object(path / SPLITS, advice=SAVE_AGAIN).get("splits"))
    if split is None and len(splits) > 1:
        raise SeveralPartsError(f"the saved dataset has the splits {', '.join(splits)}", splits)
    if split is not None and split not in splits:
        raise SeveralPartsError(f"the saved dataset has no split {split!r:.60}", splits)
    return _saved_dataset(path / (split or splits[0]), None)


def _saved_dataset(path: Path, split: str | None) -> DirectoryFiles:
    """The files of a ``Dataset`` that was saved, in their order."""
    state = read_object(path / STATE, advice=SAVE_AGAIN)
    if split is not None and split != state.get("_split"):
        raise SeveralPartsError(f"the saved dataset has no split {split!r:.60}", [])
    if any(state.get(key) for key in ("_indices_data_files", "_indices_files", "_indices")):
        raise DataError("the saved dataset has indices of an old version", where=path, advice=SAVE_AGAIN)
    entries = state.get("_data_files")
    if entries == []:
        raise MissingInputError("the saved dataset has no records", where=path, advice="check what was saved")
    names = [entry.get("filename") if isinstance(entry, dict) else entry for entry in _as_list(entries)]
    files = [path / name for name in _plain_names(path / STATE, names)]
    kinds = {file.name: file_kind(file) for file in files}
    if wrong := [name for name, kind in kinds.items() if kind != ("arrow", False)]:
        raise DataError(
            f"the saved dataset names {wrong[0]!r:.60}", where=path / STATE, advice="it must be .arrow files"
        )
    with read_errors(path):
        others = {item.name for item in path.iterdir()} - {STATE, INFORMATION, *kinds}
    return DirectoryFiles(tuple(find_file(file) for file in files), tuple(sorted(others)))


def _as_list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def _plain_names(path: Path, names: Any) -> list[str]:
    """Names of files or directories that a file lists, none of which leads elsewhere. Raises DataError."""
    found = [*_as_list(names)]
    plain = all(isinstance(name, str) and name not in ("", ".", "..") and Path(name).name == name for name in found)
    if not found or not plain or any("\0" in name for name in found):
        raise DataError("this is no list of names as save_to_disk writes it", where=path, advice=SAVE_AGAIN)
    return found


def shown_names(names: Sequence[str]) -> str:
    """The first of some names, for messages."""
    others = f" and {len(names) - SHOWN_NAMES:,} more" if len(names) > SHOWN_NAMES else ""
    return ", ".join(names[:SHOWN_NAMES]) + others
