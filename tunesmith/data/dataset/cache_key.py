"""The key of a store in the cache: a digest of everything that decides its token trees, including the code."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import tokenizers

from tunesmith.data.dataset.duplicates import DuplicateSettings
from tunesmith.data.dataset.rendering import Work
from tunesmith.data.readers.source_config import SourceConfig
from tunesmith.files import fingerprint, sha256

PACKAGE = Path(__file__).parent.parent.parent
ROOTS = ("tunesmith.data.dataset.building",)
"""The modules that turn rows into a store. They and all that they import decide its content."""

IMPORT = re.compile(r"^(?:import (tunesmith\.[\w.]+)|from (tunesmith[\w.]*) import (\([^)]*\)|.*))", re.MULTILINE)
NAME = re.compile(r"\w+")
COMMENT = re.compile(r"#.*")


def cache_key(
    work: Work,
    data: Mapping[str, str],
    duplicates: DuplicateSettings,
    known: Sequence[tuple[SourceConfig, str]] = (),
) -> str:
    """The key of the store that is built from some data.

    How many bad rows are allowed is not part of it: the same rows are left out, or nothing is stored.

    work: how rows become token trees.
    data: digest of the content of every source by its name.
    duplicates: which are dropped.
    known: sources whose records count as earlier ones when duplicates are dropped, with the digests of their content.
    """
    settings = asdict(work.render)
    del settings["tokenizer"], settings["revision"]  # the digest of the tokenizer counts, not where it was found
    return fingerprint(
        {
            "data": list(data.items()),
            "readers": [_reading(config) for config in work.sources],
            "render": settings,
            "duplicates": [duplicates.policy, duplicates.threshold if duplicates.policy == "near" else None],
            "known": [[_reading(config), digest] for config, digest in known],
            "tokenizer": work.fingerprint,
            "library": tokenizers.__version__,
            "code": loaded_code_digest(),
        }
    )


def _reading(config: SourceConfig) -> dict[str, Any]:
    """What decides the trees of a source, apart from the content of its files: not its path, split or holdout."""
    return {
        "name": config.name,
        "reader": config.reader,
        "fields": dict(config.fields),
        "options": dict(config.options),
        "ignore": list(config.ignore),
        "group": config.group,
        "filters": asdict(config.filters),
        "prompts": config.prompts,
    }


@cache
def loaded_code_digest() -> str:
    """``code_digest`` of this process, which never loads its modules again."""
    return code_digest(PACKAGE)


def code_digest(package: Path) -> str:
    """Digest of all modules that decide the content of a store, so that no version number has to be raised by hand.

    package: the directory of ``tunesmith``.
    """
    return fingerprint({module: sha256(file) for module, file in imported_modules(package, ROOTS).items()})


def imported_modules(package: Path, roots: Sequence[str]) -> dict[str, Path]:
    """Some modules and all modules of the package that they import, directly or not, with their source files.

    The imports are found in the source files, where they are all at the top. The ``__init__`` files of packages do
    not count, as they have nothing but a docstring.

    package: the directory of ``tunesmith``.
    roots: full names of modules.
    """
    found: dict[str, Path] = {}
    stack = list(roots)
    while stack:
        module = stack.pop()
        file = _file(package, module)
        if module not in found and file is not None:
            found[module] = file
            stack.extend(_imports(file.read_text(encoding="utf-8")))
    return found


def _imports(source: str) -> Iterator[str]:
    """Every name that may be a module in the import statements of a source file."""
    for whole, base, names in IMPORT.findall(COMMENT.sub("", source)):
        if whole:
            yield whole
        else:
            yield base
            yield from (f"{base}.{name}" for name in NAME.findall(names))


def _file(package: Path, module: str) -> Path | None:
    """The source file of a module, or None if there is no such module."""
    path = package.joinpath(*module.split(".")[1:]).with_suffix(".py")
    return path if path.is_file() else None
