"""Text to token ids and back, such that text can never become a control token."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import tokenizers

from tunesmith.errors import DataError
from tunesmith.files import fingerprint, write_file, write_json
from tunesmith.text.tokenizer.definition import SYMBOLS, Definition, as_encoder, locate, read_definition, with_controls
from tunesmith.text.visible import visible

GENERIC_CLASS = "PreTrainedTokenizerFast"  # loads tokenizer.json unchanged; the classes of model families rebuild it


class Tokenizer:
    """A tokenizer whose control tokens enter only by id.

    Control tokens are all special tokens, those of the prompt format, and any other added token that is not plain white
    space. ``encode`` encodes text as text: ``"</s>"`` becomes the characters ``<``, ``/``, ``s``, ``>``.

    size: the rows that an embedding needs, which is the highest id + 1.
    read_size: the same of the tokenizer as it was read, without the control tokens that were added.
    control_ids: the ids of control tokens.
    continues_alike: whether a text has the same ids at the beginning of a text and as a continuation of one.
    fingerprint: digest of everything that decides the ids of a text; the pad token does not.
    """

    def __init__(self, definition: Definition, controls: Sequence[str] = ()) -> None:
        named = [name for name in definition.symbols.values() if name in definition.vocabulary()]
        self._definition = with_controls(definition, [*dict.fromkeys(named), *controls])
        self._vocabulary = self._definition.vocabulary()
        self._controls = {
            token["content"]: int(token["id"]) for token in self._definition.added if token.get("special")
        }
        self._names = {number: name for name, number in self._controls.items()}
        self._symbols = {
            symbol: self._vocabulary[name]
            for symbol, name in self._definition.symbols.items()
            if symbol in SYMBOLS and name in self._vocabulary
        }
        self.size, self.read_size = (max(ids.values()) + 1 for ids in (self._vocabulary, definition.vocabulary()))
        self.control_ids = frozenset(self._names)
        self._text_ids = frozenset(self._vocabulary.values()) - self.control_ids
        self._fresh = self._encoder(continuing=False)
        first, continuing = (as_encoder(self._definition, frozenset(), continuing=value) for value in (False, True))
        self.continues_alike = first == continuing
        self._continuing = self._fresh if self.continues_alike else self._encoder(continuing=True)
        self._unknown = self._unknown_token(controls)
        self._forbidden = self.control_ids - self._unknown.keys()
        named_tokens = {symbol: name for symbol, name in self._definition.symbols.items() if symbol != "pad"}
        self.fingerprint = fingerprint([self._definition.content, named_tokens, sorted(self._unknown)])

    @classmethod
    def load(cls, path_or_hub_name: str, controls: Sequence[str] = (), revision: str | None = None) -> Tokenizer:
        """Read a tokenizer and add the missing ``controls`` at the next ids, in that order.

        path_or_hub_name: a directory with tokenizer.json, or a hub name like ``owner/model``.
        controls: the control tokens of the prompt format.
        revision: of the hub repository; None for its default.

        Raises MissingInputError (no directory, no tokenizer.json), DataError (cannot be understood).
        """
        return cls(read_definition(locate(path_or_hub_name, revision)), controls)

    def _encoder(self, *, continuing: bool) -> tokenizers.Tokenizer:
        place = self._definition.place
        content = as_encoder(self._definition, frozenset(self._controls), continuing=continuing)
        try:
            encoder = tokenizers.Tokenizer.from_str(json.dumps(content))
        except BaseException as error:  # the library raises nothing more precise, and no Exception where it panics
            if not isinstance(error, Exception) and not _is_panic(error):
                raise
            what = f"not a tokenizer: {visible(str(error))[:300]}"
            raise DataError(what, where=place, advice="fetch the tokenizer again") from error
        for token in self._definition.added:
            if encoder.token_to_id(token["content"]) != token["id"]:
                what = f"the added token {token['content']!r} cannot keep its id {token['id']}"
                raise DataError(what, where=place, advice="use a vocabulary without gaps")
        encoder.encode_special_tokens = True
        return encoder

    def _unknown_token(self, controls: Sequence[str]) -> dict[int, str]:
        """Return id and name of the token for characters outside the vocabulary, which ``encode`` may return.

        The result is empty if the token has a second meaning, as where one token is unknown and end of text.
        """
        model = self._definition.content["model"]
        names = {number: name for name, number in self._vocabulary.items()}
        unknown = model.get("unk_id") if "unk_id" in model else self._vocabulary.get(model.get("unk_token") or "")
        meaningful = {self.bos_id, self.eos_id, self.pad_id, *(self._controls[name] for name in controls)}
        return {} if unknown is None or unknown in meaningful else {int(unknown): names[unknown]}

    @property
    def bos_id(self) -> int | None:
        return self._symbols.get("bos")

    @property
    def eos_id(self) -> int | None:
        return self._symbols.get("eos")

    @property
    def pad_id(self) -> int | None:
        return self._symbols.get("pad")

    @property
    def unknown_ids(self) -> frozenset[int]:
        """Return the ids of characters outside the vocabulary; none if every text can be encoded."""
        return frozenset(self._unknown)

    @property
    def control_names(self) -> tuple[str, ...]:
        """Return the texts of all control tokens."""
        return tuple(self._controls)

    @property
    def vocabulary(self) -> Mapping[str, int]:
        """Return the id of every token, by its name in tokenizer.json."""
        return self._vocabulary

    def control(self, name: str) -> int:
        """Return the id of a control token, by its text or as ``bos``, ``eos``, ``pad``. Raises DataError."""
        found = self.find_ids([name])
        if not found:
            advice = "choose another prompt format, or let the format add its tokens when the tokenizer is loaded"
            raise DataError(f"the tokenizer has no token {name!r}", where=self._definition.place, advice=advice)
        return found[0]

    def may_come_from_text(self, token: int) -> bool:
        """Whether ``encode`` may return ``token``: text, or the token for characters outside the vocabulary."""
        return token in self._text_ids or token in self._unknown

    def find_ids(self, names: Iterable[str]) -> tuple[int, ...]:
        """Return the ids of the named control tokens, without those that the tokenizer lacks."""
        found = (self._symbols.get(name, self._controls.get(name)) for name in names)
        return tuple(token for token in found if token is not None)

    def control_in(self, text: str) -> str | None:
        """Return the name of a control token that occurs in ``text`` as characters, or None."""
        return next((name for name in self._controls if name in text), None)

    def is_control(self, token: int) -> bool:
        return token in self.control_ids

    def is_text(self, token: int) -> bool:
        """Whether ``token`` is text: neither a control token nor out of range."""
        return token in self._text_ids

    def encode(self, text: str, *, continuing: bool = False) -> list[int]:
        """Return the ids of one text, without special tokens. See ``encode_many``."""
        return self.encode_many([text], continuing=continuing)[0]

    def encode_many(self, texts: Sequence[str], *, continuing: bool = False) -> list[list[int]]:
        """Return the ids of every text, in one call to the library.

        texts: any strings; none of them can become a control token.
        continuing: whether the texts are continuations of other text, so that a tokenizer that adds a space before a
            text does not add it here.

        Raises DataError for text that cannot be encoded (a lone surrogate).
        """
        encoder = self._continuing if continuing else self._fresh
        try:
            found: list[list[int]] = [
                encoding.ids for encoding in encoder.encode_batch_fast(list(texts), add_special_tokens=False)
            ]
        except BaseException as error:
            if _is_panic(error):
                what = "the tokenizer fails on this text"
                raise DataError(what, where=self._definition.place, advice="fetch the tokenizer again") from error
            if not isinstance(error, TypeError):
                raise
            what = "text with half a character (a lone surrogate)"
            raise DataError(what, advice="correct or drop the record") from error
        for index, (text, ids) in enumerate(zip(texts, found, strict=True)):
            if not self._forbidden.isdisjoint(ids) or any(name in text for name in self._unknown.values()):
                found[index] = self._encode_in_parts(text, continuing)
        return found

    def _encode_in_parts(self, text: str, continuing: bool) -> list[int]:
        """Split a text inside every part that the tokenizer's model encodes as a control token, until none is left."""
        encoding = (self._continuing if continuing else self._fresh).encode(text, add_special_tokens=False)
        spans = [
            (start, end)
            for token, (start, end) in zip(encoding.ids, encoding.offsets, strict=True)
            if token in self._forbidden or (token in self._unknown and self._unknown[token] in text[start:end])
        ]
        if not spans:
            return list(encoding.ids)
        if len(text) < 2:
            advice = "drop the record or use another tokenizer"
            raise DataError(f"the tokenizer turns the character {text!r} into a control token", advice=advice)
        inner = {place for start, end in spans for place in _inside(start, end) if 0 < place < len(text)}
        edges = sorted({0, len(text)} | (inner or {len(text) // 2}))
        first, *rest = (text[start:end] for start, end in pairwise(edges))
        runs = [self.encode(first, continuing=continuing), *self.encode_many(rest, continuing=True)]
        return [token for run in runs for token in run]

    def decode(self, ids: Sequence[int], *, skip_controls: bool = True, continuing: bool = False) -> str:
        """Return the text of ids, spaces unchanged.

        ids: ids out of range are left out.
        skip_controls: whether control tokens are left out; otherwise their names are written, and the runs of text
            between them are decoded one by one, which is the inverse of rendering.
        continuing: see ``encode_many``.
        """
        decoder = self._continuing if continuing else self._fresh
        if skip_controls:
            kept = [token for token in ids if token in self._text_ids]
            return str(decoder.decode(kept, skip_special_tokens=False))
        texts: list[str] = []
        run: list[int] = []
        for token in ids:
            if token in self._text_ids:
                run.append(token)
            elif token in self._names:
                texts += (decoder.decode(run, skip_special_tokens=False), self._names[token])
                run, decoder = [], self._fresh
        texts.append(decoder.decode(run, skip_special_tokens=False))
        return "".join(texts)

    def byte_tokens(self) -> frozenset[int]:
        """Return the ids of single bytes, if the tokenizer falls back to bytes; otherwise an empty set."""
        if not self._definition.content["model"].get("byte_fallback"):
            return frozenset()
        names = (f"<0x{byte:02X}>" for byte in range(256))
        return frozenset(self._vocabulary[name] for name in names if name in self._vocabulary)

    def save(self, directory: Path, chat_template: str | None = None, extra: Mapping[str, Any] | None = None) -> None:
        """Write tokenizer.json and tokenizer_config.json, with which transformers encodes the same ids.

        directory: the folder that gets both files.
        chat_template: an entry of tokenizer_config.json; None for none.
        extra: further entries of tokenizer_config.json (``model_max_length``, ...).

        Raises StorageError.
        """
        config: dict[str, Any] = {"tokenizer_class": GENERIC_CLASS, "clean_up_tokenization_spaces": False}
        config |= {f"{symbol}_token": name for symbol, name in self._definition.symbols.items()}
        config |= {"chat_template": chat_template} if chat_template is not None else {}
        write_file(directory / "tokenizer.json", json.dumps(self._definition.content, ensure_ascii=False))
        write_json(directory / "tokenizer_config.json", config | dict(extra or {}))


def _is_panic(error: BaseException) -> bool:
    """Whether the library gave up in its native code, for which Python has no class to import."""
    return type(error).__name__ == "PanicException"


def _inside(start: int, end: int) -> tuple[int, ...]:
    """Return where to split a part of a text: in its middle, or around it if it is a single character."""
    return ((start + end) // 2,) if end - start > 1 else (start, end)
