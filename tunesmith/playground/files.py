"""Writes the files of the demo: prose, demonstrations, preferences, held-out instructions, and a tokenizer."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tunesmith.evaluate.text_match import check_to_json
from tunesmith.files import write_file, write_json
from tunesmith.playground.courtesy import in_any_tone, in_courteous_tone, in_random_tone
from tunesmith.playground.documents import write_documents
from tunesmith.playground.exercises import Exercise, write_exercises
from tunesmith.playground.facts import build_world
from tunesmith.playground.passages import load_passages
from tunesmith.playground.preferences import ExercisePair, write_preferences
from tunesmith.text.formats.format import TextPiece
from tunesmith.text.formats.registry import build_format
from tunesmith.text.tree import Message

END = "<|endoftext|>"
DEMONSTRATIONS: Mapping[str, int] = {
    "open_qa": 2600,
    "closed_qa": 2400,
    "classification": 700,
    "information_extraction": 2600,
    "summarization": 900,
    "brainstorming": 1000,
}
"""Category of dolly -> number of demonstrations; if there are fewer different ones, they are repeated."""
PREFERENCES = (600, 200)
"""Number of pairs of a courteous and a curt reply, and of a correct and a wrong reply."""
COMPARISONS = 5000
"""Number of further pairs of a correct and a wrong reply for the reward model, which is not trained on answers."""


@dataclass(frozen=True, slots=True)
class DemoFiles:
    """The paths of all files, and the held-out exercises. Fields are also file names and keys of random generators.

    prose: documents for the base model.
    demonstrations: instructions with responses.
    preferences: preference pairs about tone and content.
    comparisons: the preferences, and further pairs about content.
    checks_right: all instructions, of training and held out, with a check that passes correct replies of any tone.
    checks_courteous: all instructions with a check that passes correct replies that are courteous.
    held_out: the held-out exercises with their checks.
    held_out_tones: held-out preference pairs about tone.
    held_out_mistakes: held-out preference pairs about content.
    tokenizer: the directory of the tokenizer.
    exercises: the held-out exercises.
    """

    prose: Path
    demonstrations: Path
    preferences: Path
    comparisons: Path
    checks_right: Path
    checks_courteous: Path
    held_out: Path
    held_out_tones: Path
    held_out_mistakes: Path
    tokenizer: Path
    exercises: tuple[Exercise, ...]


def write_demo_files(
    directory: Path,
    seed: int,
    documents: int = 20_000,
    demonstrations: Mapping[str, int] = DEMONSTRATIONS,
    preferences: tuple[int, int] = PREFERENCES,
    comparisons: int = COMPARISONS,
    held_out: int = 50,
    vocabulary: int = 1000,
) -> DemoFiles:
    """Generate all texts from a seed and write them; the same arguments give the same bytes.

    directory: the directory of the files.
    seed: the seed of all texts.
    documents: number of documents of prose.
    demonstrations: category -> number of demonstrations.
    preferences: number of pairs about tone, and of pairs about content.
    comparisons: number of further pairs about content.
    held_out: number of held-out instructions of each category, none of which occurs in training.
    vocabulary: number of tokens.
    """
    passages = load_passages(build_world(seed))
    prose = list(write_documents(passages, random.Random(f"prose {seed}"), documents))
    different = write_exercises(passages, random.Random(f"train {seed}"), dict(demonstrations), held_out=False)
    trained = _repeat_to_counts(different, demonstrations, random.Random(f"order {seed}"))
    exercises = write_exercises(
        passages, random.Random(f"held out {seed}"), dict.fromkeys(demonstrations, held_out), held_out=True
    )
    directory.mkdir(parents=True, exist_ok=True)
    names = [each.name for each in fields(DemoFiles)[:-2]]
    paths = {name: directory / f"{name.replace('_', '-')}.jsonl" for name in names}
    files = DemoFiles(**paths, tokenizer=directory / "tokenizer", exercises=tuple(exercises))
    tone = random.Random(f"tone {seed}")
    toned = [replace(each, response=in_random_tone(tone, each.response)) for each in trained]
    _write_lines(files.prose, ({"messages": [{"role": "assistant", "content": text}]} for text in prose))
    _write_lines(files.demonstrations, (exercise.record() for exercise in toned))
    _write_lines(files.held_out, (exercise.checked_record() for exercise in exercises))
    _write_preferences(files, seed, different, preferences, comparisons)
    for path, check in ((files.checks_right, in_any_tone), (files.checks_courteous, in_courteous_tone)):
        asked = (*different, *exercises)
        _write_lines(path, ({**each.record(), "check": check_to_json(check(each.check))} for each in asked))
    texts = [f"{each.instruction}\n{each.context}\n{each.response}" for each in toned]
    write_tokenizer(files.tokenizer, [*prose, *texts, *prompt_texts(len(texts))], vocabulary)
    return files


def _write_preferences(
    files: DemoFiles, seed: int, trained: Sequence[Exercise], counts: tuple[int, int], comparisons: int
) -> None:
    """Write the preference pairs: those of training, further ones about content, and all held-out ones."""

    def drawn(path: Path, exercises: Sequence[Exercise], tones: int, mistakes: int) -> list[ExercisePair]:
        return write_preferences(exercises, random.Random(f"{path.stem} {seed}"), tones, mistakes)

    preferences = drawn(files.preferences, trained, *counts)
    everything = len(files.exercises)
    for path, pairs in (
        (files.preferences, preferences),
        (files.comparisons, [*preferences, *drawn(files.comparisons, trained, 0, comparisons)]),
        (files.held_out_tones, drawn(files.held_out_tones, files.exercises, everything, 0)),
        (files.held_out_mistakes, drawn(files.held_out_mistakes, files.exercises, 0, everything)),
    ):
        _write_lines(path, (pair.record() for pair in pairs))


def _repeat_to_counts(different: Sequence[Exercise], counts: Mapping[str, int], rng: random.Random) -> list[Exercise]:
    """``counts`` exercises of each category in random order, repeated equally often if there are too few."""
    chosen: list[Exercise] = []
    for category, count in counts.items():
        pool = [exercise for exercise in different if exercise.category == category]
        whole, rest = divmod(count, len(pool))
        chosen += pool * whole + rng.sample(pool, rest)
    rng.shuffle(chosen)
    return chosen


def _write_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    write_file(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))


def prompt_texts(count: int) -> list[str]:
    """What the prompt format writes around instructions, ``count`` times: its words then become tokens."""
    pieces = build_format("dolly").split(Message("user", ""), ()).given
    return ["".join(piece.text for piece in pieces if isinstance(piece, TextPiece))] * count


def write_tokenizer(directory: Path, texts: Sequence[str], vocabulary: int) -> None:
    """Train a byte-level BPE tokenizer on ``texts`` and write it with the names of its special tokens."""
    library = Tokenizer(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    library.train_from_iterator(texts, trainer)
    directory.mkdir(parents=True, exist_ok=True)
    write_file(directory / "tokenizer.json", library.to_str())
    names = {"bos_token": END, "eos_token": END, "unk_token": END}
    write_json(directory / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", **names})
