"""The list of the files of an export, with sizes and digests: what is ours in the directory, and whether it changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tunesmith.errors import DataError
from tunesmith.files import find_inner_file, fingerprint, read_object, sha256, write_json
from tunesmith.model.names import ADAPTER

EXPORT_MANIFEST = "tunesmith-manifest.json"
HASHED = 8 << 30  # bytes; of larger files only the size is compared when a model is loaded (1 GB takes about 1 s)
ADVICE = f"export the model again, or remove {EXPORT_MANIFEST} if the change is meant"


@dataclass(frozen=True, slots=True)
class ExportManifest:
    """The content of tunesmith-manifest.json.

    origin: digest of everything that the export was made from.
    files: name -> (bytes, SHA-256) of every file that the export wrote.
    """

    origin: str
    files: Mapping[str, tuple[int, str]]


def write_export_manifest(directory: Path, origin: str) -> None:
    """List all files of a new export. Raises StorageError."""
    files = {
        path.relative_to(directory).as_posix(): {"size": path.stat().st_size, "sha256": sha256(path)}
        for path in (*sorted(directory.iterdir()), *sorted(directory.glob(f"{ADAPTER}/*")))
        if path.is_file()
    }
    content = {"version": 1, "origin": origin, "files": files}
    write_json(directory / EXPORT_MANIFEST, {**content, "seal": fingerprint(content)})


def read_export_manifest(directory: Path) -> ExportManifest | None:
    """The manifest of an export; None for another model directory. Raises DataError if it was changed."""
    path = find_inner_file(directory, EXPORT_MANIFEST)
    if path is None:
        return None
    content = read_object(path, advice=ADVICE)
    seal = content.pop("seal", None)
    try:
        files = {str(name): (int(entry["size"]), str(entry["sha256"])) for name, entry in content["files"].items()}
    except (KeyError, TypeError, ValueError, AttributeError):
        seal = None
    if seal is None or seal != fingerprint(content) or not all(_is_plain(name) for name in files):
        raise DataError("this list of the files of an export was changed", where=path, advice=ADVICE)
    return ExportManifest(str(content.get("origin")), files)


def _is_plain(name: str) -> bool:
    """Whether a name is that of a file in the directory of an export, or in that of its adapters."""
    last = name.removeprefix(f"{ADAPTER}/")
    return "/" not in last and not last.startswith(".")


def find_changed_file(
    directory: Path, manifest: ExportManifest, *, suffix: str = "", largest: int | None = None
) -> str | None:
    """The first listed file that is missing or has other content, with the reason; None if all are as exported.

    suffix: of the names that are compared.
    largest: bytes up to which the content is compared, beyond them only the size; None: always the content.
    Raises DataError for a link that leaves the directory.
    """
    for name, (size, digest) in manifest.files.items():
        if not name.endswith(suffix):
            continue
        path = find_inner_file(directory, name)
        if path is None:
            return f"{name} is missing"
        found = path.stat().st_size
        if found != size:
            return f"{name} has {found:,} bytes, not {size:,}"
        if (largest is None or size <= largest) and sha256(path) != digest:
            return f"the content of {name} has changed (SHA-256 differs)"
    return None


def check_weights_unchanged(directory: Path) -> None:
    """Raises DataError if weights of an export were damaged or lost since it was written; any other model passes.

    The other files are text, which people edit and which is checked when it is read.
    """
    manifest = read_export_manifest(directory)
    if manifest is None:
        return
    fault = find_changed_file(directory, manifest, suffix=".safetensors", largest=HASHED)
    if fault is not None:
        raise DataError(f"this export was damaged or changed: {fault}", where=directory, advice=ADVICE)


def is_current(directory: Path, origin: str) -> bool:
    """Whether a directory holds the complete export of ``origin``, byte for byte."""
    try:
        manifest = read_export_manifest(directory)
        return manifest is not None and manifest.origin == origin and find_changed_file(directory, manifest) is None
    except DataError:
        return False


def foreign_files(directory: Path) -> Sequence[str]:
    """The names in an export that the export did not write: a README, converted models, anything of the user.

    Those in the directory of the adapters are relative to the export as well.
    """
    if not directory.is_dir():
        return []
    try:
        manifest = read_export_manifest(directory)
    except DataError:
        manifest = None
    ours = {EXPORT_MANIFEST, *(name.split("/")[0] for name in (manifest.files if manifest is not None else ()))}
    names = sorted(path.name for path in directory.iterdir() if path.name not in ours)
    if manifest is not None and ADAPTER in ours and (directory / ADAPTER).is_dir():
        inner = (f"{ADAPTER}/{path.name}" for path in (directory / ADAPTER).iterdir())
        names += sorted(name for name in inner if name not in manifest.files)
    # Exports of earlier versions have no list; their weights must not stay next to the new ones.
    return [
        name for name in names if manifest is not None or not name.startswith("model") or ".safetensors" not in name
    ]
