"""A tokenizer as data: the content of tokenizer.json, read from disk or hub, and the changes that are made to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from tunesmith.errors import DataError, MissingInputError
from tunesmith.files import LARGEST_OBJECT, LARGEST_SETTINGS, find_inner_file, looks_like_path, read_object
from tunesmith.text.tokenizer.checks import check_tokenizer
from tunesmith.text.tokenizer.hub_errors import describe_hub_error

MAIN = "tokenizer.json"
NAMES = ("special_tokens_map.json", "tokenizer_config.json")  # the later one wins
TEMPLATE = "chat_template.jinja"  # wins over the entry of tokenizer_config.json
SYMBOLS = ("bos", "eos", "pad", "unk")


@dataclass(frozen=True)
class Definition:
    """The content of tokenizer.json with the names of its special tokens.

    content: the parsed JSON.
    symbols: the texts of the tokens bos, eos, pad and unk, by these keys; a tokenizer may lack some.
    place: the path of the file, for error messages.
    """

    content: Mapping[str, Any]
    symbols: Mapping[str, str]
    place: str

    @property
    def added(self) -> list[dict[str, Any]]:
        """Return the added tokens, lowest id first."""
        return sorted(self.content.get("added_tokens") or (), key=lambda token: int(token["id"]))

    def vocabulary(self) -> dict[str, int]:
        """Return the id of every token of the model and of every added token."""
        pieces = self.content["model"]["vocab"]
        if isinstance(pieces, Mapping):
            found = dict(pieces)
        else:
            found = {piece: index for index, (piece, _) in reversed(list(enumerate(pieces)))}
        return found | {token["content"]: token["id"] for token in self.added}


def locate(path_or_hub_name: str, revision: str | None = None) -> Path:
    """Return the directory that holds tokenizer.json: a directory on disk, or the local copy of a hub repository.

    path_or_hub_name: a path, or a hub name like ``owner/model``.
    revision: of the hub repository; None for its default.

    Raises MissingInputError.
    """
    directory = Path(path_or_hub_name).expanduser()
    if directory.is_dir():
        return directory
    advice = "give a directory that holds tokenizer.json, or a hub name like owner/model"
    if looks_like_path(path_or_hub_name):
        raise MissingInputError("no such directory", where=path_or_hub_name, advice=advice)
    try:
        return Path(snapshot_download(path_or_hub_name, revision=revision, allow_patterns=[MAIN, *NAMES, TEMPLATE]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        what, advice = describe_hub_error(error)
        raise MissingInputError(what, where=path_or_hub_name, advice=advice) from error


def _read(directory: Path, name: str) -> dict[str, Any]:
    """The content of a file of a directory; empty if there is none."""
    path = find_inner_file(directory, name)
    largest = LARGEST_OBJECT if name == MAIN else LARGEST_SETTINGS
    return {} if path is None else read_object(path, advice="fetch the tokenizer again", largest=largest)


def read_definition(directory: Path) -> Definition:
    """Read tokenizer.json and the names of its special tokens. Raises MissingInputError, DataError."""
    main = directory / MAIN
    if find_inner_file(directory, MAIN) is None:
        advice = "save the tokenizer in the fast format (tokenizer.json); other formats are not read"
        raise MissingInputError(f"holds no {MAIN}", where=directory, advice=advice)
    content = _read(directory, MAIN)
    check_tokenizer(content, main)
    symbols: dict[str, str] = {}
    for name in NAMES:
        settings = _read(directory, name)
        for symbol in SYMBOLS:
            value = settings.get(f"{symbol}_token")
            text = value.get("content") if isinstance(value, dict) else value
            if isinstance(text, str) and text:
                symbols[symbol] = text
    return Definition(content, symbols, str(main))


def read_chat_template(directory: Path) -> str | None:
    """Read the chat template of a tokenizer directory; None if it has none. Raises MissingInputError, DataError."""
    if (path := find_inner_file(directory, TEMPLATE)) is not None:
        try:
            with path.open("rb") as file:
                return file.read(LARGEST_SETTINGS).decode()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError("cannot be read as UTF-8 text", where=directory / TEMPLATE) from error
    found = _read(directory, "tokenizer_config.json").get("chat_template")
    if isinstance(found, list):  # several named templates
        named = [entry for entry in found if isinstance(entry, dict) and entry.get("name") == "default"]
        found = named[0].get("template") if named else None
    return found if isinstance(found, str) else None


def with_controls(definition: Definition, controls: Sequence[str]) -> Definition:
    """Return the definition with every token of ``controls`` added as a special token.

    Missing tokens get the next ids, in the order given; existing ones keep their ids.
    """
    known = definition.vocabulary()
    highest = max(known.values())
    added = {token["content"]: token for token in definition.added}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    for name in controls:
        if name not in known:
            known[name] = highest = highest + 1
        added[name] = {**flags, **added.get(name, {}), "id": known[name], "content": name, "special": True}
    tokens = sorted(added.values(), key=lambda token: int(token["id"]))
    return Definition({**definition.content, "added_tokens": tokens}, definition.symbols, definition.place)


def as_encoder(definition: Definition, controls: frozenset[str], *, continuing: bool) -> dict[str, Any]:
    """Return the tokenizer.json of an encoder for text: no post-processor, no truncation, no random merges.

    controls: the tokens that are special in it.
    continuing: whether its texts are continuations of other text, so that encoding adds no space at the front and
        decoding removes none there.
    """
    content = dict(definition.content)
    content.update(post_processor=None, truncation=None, padding=None)
    content["model"] = {**content["model"], **({"dropout": None} if "dropout" in content["model"] else {})}
    content["added_tokens"] = [{**token, "special": token["content"] in controls} for token in definition.added]
    if continuing:
        content["normalizer"] = _without_front(content.get("normalizer"))
        content["pre_tokenizer"] = _without_front(content.get("pre_tokenizer"))
        if _writes_words(content["pre_tokenizer"]):
            content["normalizer"] = _with_single_spaces(content["normalizer"])
            content["pre_tokenizer"] = content["pre_tokenizer"]["pretokenizers"][1]
        content["decoder"] = _without_front(content.get("decoder"), decoding=True)
    return content


def _writes_words(pre_tokenizer: Any) -> bool:
    """Whether text is split at white space first and then a space is added before every word (T5).

    Without that space words would be joined, so a continuation has to keep its own spaces instead.
    """
    parts = pre_tokenizer.get("pretokenizers") if isinstance(pre_tokenizer, dict) else None
    return isinstance(parts, list) and [part.get("type") for part in parts] == ["WhitespaceSplit", "Metaspace"]


def _with_single_spaces(normalizer: Any) -> dict[str, Any]:
    """Return the normalizer, extended to reduce white space to single spaces and remove it at the end."""
    spaces = {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "}
    end = {"type": "Strip", "strip_left": False, "strip_right": True}
    return {"type": "Sequence", "normalizers": [*([normalizer] if normalizer else []), spaces, end]}


def _without_front(part: Any, *, decoding: bool = False) -> Any:
    """Return a normalizer, pre-tokenizer or decoder that neither adds nor removes a space at the front."""
    if not isinstance(part, dict):
        return part
    kind = part.get("type")
    key = next((key for key in ("normalizers", "pretokenizers", "decoders") if key in part), None)
    if kind == "Sequence" and key is not None:
        parts = [_without_front(item, decoding=decoding) for item in part[key]]
        return {**part, key: [item for item in parts if item is not None]}
    if kind == "Prepend":
        return None
    if kind == "Strip" and decoding:  # a normalizer of that type strips the text itself
        return {**part, "start": 0}
    if kind == "Metaspace":
        return {key: value for key, value in part.items() if key != "add_prefix_space"} | {"prepend_scheme": "never"}
    if kind == "ByteLevel" and not decoding:  # a decoder of that type has the entry, but does not use it
        return {**part, "add_prefix_space": False}
    return part
