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

GENERIC_CLASS = "PreTrainedTokenizerFast"  # reads tokenizer.json as it stands; family classes rebuild it


class Tokenizer:
    """A vocabulary with control tokens that only enter by id.

    Control tokens are all special tokens, the ones the prompt format asked for, and any other added token that is not
    plain white space. ``encode`` sees text as text: ``"</s>"`` becomes the characters ``<``, ``/``, ``s``, ``>``.

    size: rows that an embedding needs, the highest id + 1. control_ids: ids that ``encode`` never returns.
    fingerprint: digest of all that decides the ids of a text; what pads a batch does not.
    """

    def __init__(self, definition: Definition, controls: Sequence[str] = ()) -> None:
        named = [name for name in definition.symbols.values() if name in definition.vocabulary()]
        self._definition = with_controls(definition, [*dict.fromkeys(named), *controls])
        self._vocabulary = self._definition.vocabulary()
        self._controls = {
            token["content"]: int(token["id"])
            for token in self._definition.added
            if token.get("special") or token["content"].strip()
        }
        self._names = {number: name for name, number in self._controls.items()}
        self._symbols = {
            symbol: self._vocabulary[name]
            for symbol, name in self._definition.symbols.items()
            if symbol in SYMBOLS and name in self._vocabulary
        }
        self.size = max(self._vocabulary.values()) + 1
        self.control_ids = frozenset(self._names)
        self._text_ids = frozenset(self._vocabulary.values()) - self.control_ids
        self._fresh = self._encoder(continuing=False)
        same = as_encoder(self._definition, frozenset(), continuing=True) == as_encoder(
            self._definition, frozenset(), continuing=False
        )
        self.continues_alike = same
        self._continuing = self._fresh if same else self._encoder(continuing=True)
        self._unknown = self._unknown_token(controls)
        self._forbidden = self.control_ids - self._unknown.keys()
        named_tokens = {symbol: name for symbol, name in self._definition.symbols.items() if symbol != "pad"}
        self.fingerprint = fingerprint([self._definition.content, named_tokens, sorted(self._unknown)])

    @classmethod
    def load(cls, path_or_hub_name: str, controls: Sequence[str] = (), revision: str | None = None) -> Tokenizer:
        """Read a tokenizer and add the missing ``controls`` at the next ids, in that order.

        Raises MissingInputError (no directory, no tokenizer.json), DataError (cannot be understood).
        """
        return cls(read_definition(locate(path_or_hub_name, revision)), controls)

    def _encoder(self, *, continuing: bool) -> tokenizers.Tokenizer:
        place = self._definition.place
        content = as_encoder(self._definition, frozenset(self._controls), continuing=continuing)
        try:
            encoder = tokenizers.Tokenizer.from_str(json.dumps(content))
        except Exception as error:  # the library raises nothing more precise
            raise DataError(f"not a tokenizer: {error}", where=place, advice="fetch the tokenizer again") from error
        for token in self._definition.added:
            if encoder.token_to_id(token["content"]) != token["id"]:
                what = f"the added token {token['content']!r} cannot keep its id {token['id']}"
                raise DataError(what, where=place, advice="use a vocabulary without gaps")
        encoder.encode_special_tokens = True
        return encoder

    def _unknown_token(self, controls: Sequence[str]) -> dict[int, str]:
        """The token (id and name) that the model has for characters outside its vocabulary, which text may become.

        Empty where it has a second meaning, as in vocabularies that call one token unknown and end of text.
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
    def control_names(self) -> tuple[str, ...]:
        """The texts of all control tokens."""
        return tuple(self._controls)

    def control(self, name: str) -> int:
        """The id of a control token, by its text or as ``bos``, ``eos``, ``pad``. Raises DataError."""
        found = self.known_ids([name])
        if not found:
            advice = "choose another prompt format, or let the format add its tokens when the tokenizer is loaded"
            raise DataError(f"the tokenizer has no token {name!r}", where=self._definition.place, advice=advice)
        return found[0]

    def may_come_from_text(self, token: int) -> bool:
        """Whether ``encode`` may return an id: text, or the token for characters outside the vocabulary."""
        return token in self._text_ids or token in self._unknown

    def known_ids(self, names: Iterable[str]) -> tuple[int, ...]:
        """The ids of those of the named control tokens that there are."""
        found = (self._symbols.get(name, self._controls.get(name)) for name in names)
        return tuple(token for token in found if token is not None)

    def control_in(self, text: str) -> str | None:
        """The name of a control token that is written out in ``text``, if any."""
        return next((name for name in self._controls if name in text), None)

    def is_control(self, token: int) -> bool:
        return token in self.control_ids

    def is_text(self, token: int) -> bool:
        """Whether an id stands for text: neither a control token nor out of range."""
        return token in self._text_ids

    def encode(self, text: str, *, continuing: bool = False) -> list[int]:
        """The ids of one text, without anything around them. See ``encode_many``."""
        return self.encode_many([text], continuing=continuing)[0]

    def encode_many(self, texts: Sequence[str], *, continuing: bool = False) -> list[list[int]]:
        """The ids of every text, in one call to the library.

        continuing: the texts go on in the middle of a run, so a tokenizer that puts a space in front of a text does not.
        Raises DataError for text that cannot be encoded (half of a surrogate pair).
        """
        encoder = self._continuing if continuing else self._fresh
        try:
            found: list[list[int]] = [
                encoding.ids for encoding in encoder.encode_batch_fast(list(texts), add_special_tokens=False)
            ]
        except TypeError as error:
            raise DataError(
                "text with half a character (a lone surrogate)", advice="mend or drop the record"
            ) from error
        for index, (text, ids) in enumerate(zip(texts, found, strict=True)):
            if not self._forbidden.isdisjoint(ids) or any(name in text for name in self._unknown.values()):
                found[index] = self._encode_in_parts(text, continuing)
        return found

    def _encode_in_parts(self, text: str, continuing: bool) -> list[int]:
        """Cut a text inside every stretch that the model of the tokenizer takes for a control token, until none is left."""
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
        """The text of ids, every space as it stands.

        skip_controls: control tokens leave no trace; otherwise their names appear, and the runs between them are decoded
        one by one, which undoes what rendering does. continuing: see ``encode_many``. Ids out of range leave no trace.
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
        """The ids that stand for one byte where the tokenizer falls back to bytes; empty for all others."""
        if not self._definition.content["model"].get("byte_fallback"):
            return frozenset()
        names = (f"<0x{byte:02X}>" for byte in range(256))
        return frozenset(self._vocabulary[name] for name in names if name in self._vocabulary)

    def save(self, directory: Path, chat_template: str | None = None, extra: Mapping[str, Any] | None = None) -> None:
        """Write tokenizer.json and tokenizer_config.json, which stock transformers loads to the same ids.

        extra: further entries of tokenizer_config.json (``model_max_length``, ...). Raises StorageError.
        """
        config: dict[str, Any] = {"tokenizer_class": GENERIC_CLASS, "clean_up_tokenization_spaces": False}
        config |= {f"{symbol}_token": name for symbol, name in self._definition.symbols.items()}
        config |= {"chat_template": chat_template} if chat_template is not None else {}
        write_file(directory / "tokenizer.json", json.dumps(self._definition.content, ensure_ascii=False))
        write_json(directory / "tokenizer_config.json", config | dict(extra or {}))


def _inside(start: int, end: int) -> tuple[int, ...]:
    """Where to cut a stretch of text: in its middle, or around it if it is a single character."""
    return ((start + end) // 2,) if end - start > 1 else (start, end)
