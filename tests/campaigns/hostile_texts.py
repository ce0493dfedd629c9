"""Hostile tokenizers."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

from tests.campaigns.hostile_values import change_inside, hostile_value, shown
from tests.campaigns.hostile_world import Trial, change_json
from tests.model.hostile_directories import ESCAPE

Change = Callable[[random.Random, dict[str, Any]], Any]
"""Changes the content of tokenizer.json in place."""


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all entries of a JSON value, of long containers only the first three."""
    found = [path] if path else []
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in list(inner)[: 40 if len(path) < 2 else 3]:
        found += places(entry, (*path, key))
    return found


def anywhere(draw: random.Random, content: dict[str, Any]) -> None:
    """Another value at any place."""
    path = draw.choice(places(content))
    inner: Any = content
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = hostile_value(draw, inner[path[-1]])


def added_token(draw: random.Random, content: dict[str, Any]) -> None:
    """An added token with other values, without a key, or one too many."""
    token = {"id": 5, "content": "<new>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    token["special"] = draw.random() < 0.5
    key = draw.choice(sorted(token))
    kind = draw.randrange(5)
    if kind == 0:
        del token[key]
    elif kind == 1:
        token[key] = hostile_value(draw, token[key])
    elif kind == 2:
        token["id"] = draw.choice((2**32 - 1, 2**31, -1, 10**9, 10**6, "7", 7.0))
    elif kind == 3:
        token["content"] = draw.choice(("", ESCAPE, "x" * 100_000, "\u202e", "a", " ", "\n", "\x00"))
    tokens: list[Any] = [token] if kind < 4 else [{**token, "id": 10**4 + n, "content": f"<{n}>"} for n in range(9_999)]
    content["added_tokens"] = [*(content.get("added_tokens") or ()), *tokens]


def vocabulary(draw: random.Random, content: dict[str, Any]) -> None:
    """A vocabulary with ids of any type and size, or of another form."""
    model = content["model"]
    if isinstance(model["vocab"], dict):
        name = draw.choice(sorted(model["vocab"]))
        number = draw.choice((2**32, 2**32 - 1, 2**31, -1, 10**9, 10**6, "7", 7.5, None, [], True, 0))
        model["vocab"][draw.choice((name, "new", ESCAPE, ""))] = number
    else:
        entry = draw.choice((["x"], ["x", "y"], ["", 0], [1, 2], "x", None, ["x", 1e308], ["x", float("nan")], []))
        model["vocab"][draw.randrange(len(model["vocab"]))] = entry
    if draw.random() < 0.3:
        model["vocab"] = draw.choice(([], {}, [["a", 0.0]], {"a": 0}, {"a": 1}, {"a": 0, "b": 0}, nested_object(60)))


def merges(draw: random.Random, content: dict[str, Any]) -> None:
    """Merges of pieces that do not exist, or of another form."""
    model = content["model"]
    extra = draw.choice(("a b", "a", "", ["a", "b", "c"], ["zz", "yy"], 7, None, [], "a  b", ["a", 1]))
    model["merges"] = draw.choice(([*model.get("merges", ()), extra], [extra] * 1000, "x", {}, None, 7))


def kind_of_model(draw: random.Random, content: dict[str, Any]) -> None:
    """Another kind of model on this vocabulary, or settings of another kind."""
    kinds = ("BPE", "Unigram", "WordPiece", "WordLevel", "Own", "", None, 7, ["BPE"])
    keys = ("type", "unk_id", "unk_token", "byte_fallback", "fuse_unk", "dropout", "continuing_subword_prefix")
    key = draw.choice(keys)
    content["model"][key] = draw.choice(kinds) if key == "type" else hostile_value(draw, content["model"].get(key))


def growing(draw: random.Random, content: dict[str, Any]) -> None:
    """A normalizer, pre-tokenizer or decoder that makes text much longer."""
    long = draw.choice((2, 10, 100, 1000, 10**6))
    text = draw.choice(("a", "e", " ", "", "r"))
    count = draw.choice((1, 5, 12, 30))
    pattern = draw.choice(({"String": text}, {"Regex": draw.choice((".", "", "\\b", "a|e", "(?=a)", ".*?"))}))
    replace = {"type": "Replace", "pattern": pattern, "content": (text or "a") * long}
    kinds = (replace, {"type": "Prepend", "prepend": "x" * long}, {"type": "NFKD"}, {"type": "ByteLevel"})
    parts = [draw.choice(kinds[: draw.choice((1, 4))]) for _ in range(count)]
    if draw.random() < 0.7:
        content["normalizer"] = {"type": "Sequence", "normalizers": parts}
    else:
        content["decoder"] = {"type": "Sequence", "decoders": [replace] * count}


def patterns(draw: random.Random, content: dict[str, Any]) -> None:
    """Regular expressions that take exponential time, or are wrong."""
    regex = draw.choice(
        (
            *(
                "(a+)+$",
                "(a|a)*$",
                "(.*)*x",
                "((a*)*)*b",
                "(?:.+)+\\d",
                "(\\w+\\s?)+$",
                "(x+x+)+y",
                "(?=(a+)+b)",
                "a{1000}",
            ),
            *(
                "(",
                "[",
                "(?<n>a)\\g<n>*",
                "\\1",
                "(?R)",
                "a{99999999}",
                "(?:a{1000}){1000}",
                "(?<=a+)b",
                "\\p{Nope}",
                "",
            ),
            *("(" * 5000 + ")" * 5000, "|" * 100_000, "[a-z&&[^b]]+", "(.)\\1*(.)\\2*(.)\\3*$", "(.+)+(.+)+(.+)+\\n"),
        )
    )
    split = {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": draw.random() < 0.3}
    if draw.random() < 0.7:
        content["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, content.get("pre_tokenizer") or split]}
    else:
        content["normalizer"] = {"type": "Replace", "pattern": {"Regex": regex}, "content": "a"}


def nested_part(draw: random.Random, content: dict[str, Any]) -> None:
    """A sequence in sequences, or of very many parts."""
    key, inner = draw.choice(
        (("normalizer", "normalizers"), ("pre_tokenizer", "pretokenizers"), ("decoder", "decoders"))
    )
    part: Any = {"type": "Sequence", inner: []}
    if draw.random() < 0.6:
        for _ in range(draw.choice((30, 120, 400))):
            part = {"type": "Sequence", inner: [part]}
    else:
        part[inner] = [{"type": draw.choice(("NFC", "ByteLevel", "Fuse", "Own", "Metaspace"))}] * draw.choice(
            (1000, 100_000)
        )
    content[key] = part


def charsmap(draw: random.Random, content: dict[str, Any]) -> None:
    """A precompiled map of characters that is damaged."""
    text = draw.choice(
        ("", "AAAA", "/////w==", "AAAAAA==", "BAAAAP////8=", "not base64", "AA" * 50_000, "QAAAAAAAAAA" * 40)
    )
    content["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": text}


def nested_object(depth: int) -> Any:
    found: Any = {"a": 0}
    for _ in range(depth):
        found = {"a": found}
    return found


CHANGES: tuple[Change, ...] = (
    *(anywhere, anywhere, anywhere, added_token, added_token, vocabulary, merges, kind_of_model, growing, growing),
    *(patterns, patterns, nested_part, charsmap),
)


def tokenizer(trial: Trial) -> str:
    """tokenizer.json with one change."""
    path = trial.model / "tokenizer.json"
    content = json.loads(path.read_text())
    change = trial.draw.choice(CHANGES)
    change(trial.draw, content)
    path.write_text(json.dumps(content))
    return f"tokenizer.json: {(change.__doc__ or '').strip()}"


def tokenizer_config(trial: Trial) -> str:
    """tokenizer_config.json or special_tokens_map.json with another value."""
    draw = trial.draw
    name = draw.choice(("tokenizer_config.json", "special_tokens_map.json"))
    keys = ("bos_token", "eos_token", "pad_token", "unk_token", "chat_template", "added_tokens_decoder", "auto_map")
    values = {draw.choice((*keys, "model_max_length", "tokenizer_class")): hostile_value(draw) for _ in range(2)}
    if draw.random() < 0.4:
        token = {"content": draw.choice(("a", ESCAPE, "", 7, "<new>")), "__type": "AddedToken", "lstrip": "x"}
        values[draw.choice(keys)] = draw.choice((token, change_inside(draw, token), [token], "<|new|>", "the"))
    change_json(trial.model / name, **values)
    return f"{name}: {shown(values)}"
