"""The options of the format ``tokenizer`` for a tokenizer on disk or hub."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from tunesmith.errors import RecipeError
from tunesmith.text.formats.chat_template import TokenizerTemplate
from tunesmith.text.formats.template_source import SOURCE_OPTIONS, resolve_template
from tunesmith.text.tokenizer.definition import SYMBOLS, locate, read_chat_template, read_definition
from tunesmith.text.tokenizer.tokenizer import Tokenizer

# Added tokens that are not special are text, except those that a template writes and that look like marks of a turn.
_MARKS = (("<|", "|>"), ("<\uff5c", "\uff5c>"))
_LSTRIP_ADVICE = "choose another prompt format, or a tokenizer whose tokens leave the text around them as it is"


def template_options(
    path_or_hub_name: str, revision: str | None = None, given: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return all options of the format ``tokenizer`` for a tokenizer.

    path_or_hub_name, revision: of the tokenizer, as for ``Tokenizer.load``.
    given: options that replace those of the tokenizer. ``template`` may be a name, ``template_file`` a path,
        ``variables`` values of the template, ``system`` the place of the system message; they become part of the
        template.

    Raises MissingInputError, DataError, RecipeError.
    """
    options = dict(given or {})
    names = [*SOURCE_OPTIONS, *(field.name for field in fields(TokenizerTemplate) if field.init)]
    for option in options:
        if option not in names:
            close = difflib.get_close_matches(option, names, n=1)
            advice = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(dict.fromkeys(names))}"
            raise RecipeError(f"prompt format 'tokenizer' has no option {option!r}", advice=advice)
    directory = locate(path_or_hub_name, revision)
    definition = read_definition(directory)
    template = resolve_template(read_chat_template(directory), options, path_or_hub_name)
    added = [
        token["content"]
        for token in definition.added
        if not token.get("special") and token["content"] in str(template) and _is_mark(token["content"])
    ]
    controls = Tokenizer(definition, added).control_names
    flags = {token["content"]: token for token in definition.added}
    stripping = [name for name in controls if flags.get(name, {}).get("lstrip") and name in str(template)]
    if stripping:
        what = f"the token {stripping[0]!r} strips the white space before it, which a prompt cannot do in advance"
        raise RecipeError(what, where=path_or_hub_name, advice=_LSTRIP_ADVICE)
    symbols = definition.symbols
    known: dict[str, Any] = {f"{symbol}_token": symbols[symbol] for symbol in SYMBOLS if symbol in symbols}
    known["controls"] = list(controls)
    known["swallowing"] = [name for name in controls if flags.get(name, {}).get("rstrip")]
    if added:
        known["added"] = added
    tokens = json.dumps(known, ensure_ascii=False, sort_keys=True)
    rest = {key: value for key, value in options.items() if key not in SOURCE_OPTIONS}
    return {"template": template, "tokens": tokens, **rest}


def _is_mark(text: str) -> bool:
    return any(text.startswith(start) and text.endswith(end) for start, end in _MARKS)
