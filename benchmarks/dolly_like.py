"""Generated records with the lengths of databricks-dolly-15k, and a tokenizer for them: benchmarks need no download."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

# Quantiles of the lengths of dolly's fields in Pythia tokens at these shares, measured on 6,000 records.
SHARES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 1.0)
INSTRUCTION = (2, 5, 6, 8, 9, 11, 12, 14, 16, 20, 28, 38, 54, 71, 754)
CONTEXT = (3, 54, 72, 101, 126, 150, 177, 213, 257, 334, 501, 703, 1220, 1792, 5462)
RESPONSE_WITH_CONTEXT = (2, 4, 9, 15, 20, 26, 33, 46, 62, 88, 143, 211, 400, 643, 3185)
RESPONSE_WITHOUT_CONTEXT = (2, 4, 9, 16, 26, 38, 51, 68, 90, 123, 188, 274, 402, 548, 2070)
CONTEXT_SHARE = 0.295

WORDS = 3000
VOCABULARY = 8000  # every generated word becomes one token, so lengths in words are lengths in tokens
END_OF_TEXT = "<|endoftext|>"


@dataclass(frozen=True, slots=True)
class Record:
    """One record in dolly's fields; ``context`` may be empty."""

    instruction: str
    context: str
    response: str


def draw_length(draw: random.Random, table: Sequence[int]) -> int:
    """A length from a table of quantiles."""
    return length_at(draw.random(), table)


def length_at(share: float, table: Sequence[int]) -> int:
    """The length that this share of the records does not exceed, geometric between the points of the table."""
    above = next(index for index, value in enumerate(SHARES) if value >= share) or 1
    low, high = table[above - 1], table[above]
    part = (share - SHARES[above - 1]) / (SHARES[above] - SHARES[above - 1])
    return round(low * float((high / low) ** part))


def generate_records(count: int, seed: int = 7) -> list[Record]:
    """``count`` records of made-up words."""
    draw = random.Random(seed)
    write = writer(draw)
    found = []
    for _ in range(count):
        with_context = draw.random() < CONTEXT_SHARE
        response = RESPONSE_WITH_CONTEXT if with_context else RESPONSE_WITHOUT_CONTEXT
        instruction = write(draw_length(draw, INSTRUCTION))
        context = write(draw_length(draw, CONTEXT)) if with_context else ""
        found.append(Record(instruction, context, write(draw_length(draw, response))))
    return found


def writer(draw: random.Random) -> Callable[[int], str]:
    """A function that makes a text of a given number of words. As in a language, few words are frequent."""
    words = make_words(draw)
    weights = [1.0 / (rank + 10) for rank in range(len(words))]
    return lambda length: " ".join(draw.choices(words, weights, k=length))


def make_words(draw: random.Random) -> list[str]:
    """Different words of one to three syllables."""
    syllables = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
    words: dict[str, None] = {}
    while len(words) < WORDS:
        words["".join(draw.choices(syllables, k=draw.randint(1, 3)))] = None
    return list(words)


def train_tokenizer(texts: Iterable[str], directory: Path, symbols: Mapping[str, str]) -> None:
    """Train a byte-level BPE like Pythia's and write it as ``directory``/tokenizer.json.

    symbols: the special tokens by their purpose, ``{"eos_token": "</s>", ...}``; they get the lowest ids.
    """
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(dict.fromkeys(symbols.values())),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*texts, " ".join(make_words(random.Random(7)))], trainer)
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(directory / "tokenizer.json"))
    (directory / "tokenizer_config.json").write_text(json.dumps(symbols) + "\n", encoding="utf-8")
