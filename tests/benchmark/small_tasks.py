"""Small data for the seven tasks of dolly and others, in the layouts of the hub and of the publishers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.text.small_tokenizers import byte_level, prefixed, t5_like, write_tokenizer
from tunesmith.model.load import new_model

COLOURS = ("red", "blue", "old and green", "blue and big", "yellow, as ever", "grey")
SHAPES = {
    "gpt_neox": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64},
    "llama": {
        **{"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2},
        "intermediate_size": 64,
    },
    "t5": {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "tie_word_embeddings": True},
}


def write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_tasks(directory: Path, items: int = 5) -> Path:
    """The files of the seven tasks of dolly; ARC as its publisher wrote it."""
    numbers = range(items)
    options = [[COLOURS[(n + k) % 6] for k in range(4)] for n in numbers]
    labels = ["A", "B", "C", "D"]
    arc = [
        {
            "id": f"q{n}",
            "question": {
                "stem": f"What is the colour of river {n}?",
                "choices": [{"text": t, "label": x} for t, x in zip(options[n], labels, strict=True)],
            },
            "answerKey": labels[n % 4],
        }
        for n in numbers
    ]
    book = [
        {"question_stem": f"The door {n} is", "choices": {"text": options[n], "label": labels}, "answerKey": "B"}
        for n in numbers
    ]
    ending = [
        {"activity_label": "Painting", "ctx_a": f"A man has {n} [title] cats.", "ctx_b": "he", "endings": options[n]}
        | {"label": str(n % 4)}
        for n in numbers
    ]
    rows = {
        "openbookqa.test": book,
        "arc_easy.test": arc,
        "winogrande_xl.validation": [
            {"sentence": f"The cat saw the dog {n} because _ was big.", "option1": "the cat", "option2": "the dog"}
            | {"answer": str(1 + n % 2)}
            for n in numbers
        ],
        "hellaswag.validation": ending,
        "arc_challenge.validation": arc,
        "piqa.validation": [
            {"goal": f"Paint a wall {n}", "sol1": COLOURS[n % 6], "sol2": "naïve red paint", "label": n % 2}
            for n in numbers
        ],
        "boolq.validation": [
            {"passage": "The river is long. " * (1 + n), "question": "is it long", "answer": n % 2 == 0}
            for n in numbers
        ],
    }
    for name, lines in rows.items():
        write_lines(directory / f"{name}.jsonl", lines)
    return directory


def write_model(
    directory: Path, architecture: str = "gpt_neox", seed: int = 1, positions: int = 512, tokens: int = 560
) -> Path:
    """A tiny model with random weights, large enough that its answers differ, and its tokenizer."""
    directory.mkdir(parents=True, exist_ok=True)
    size = {} if architecture == "t5" else {"max_position_embeddings": positions}
    model = new_model({"architecture": architecture, **SHAPES[architecture], **size}, tokens, seed)
    model.get_input_embeddings().weight.data.mul_(20)
    if architecture == "t5":
        model.config.pad_token_id = model.config.decoder_start_token_id = 0
    model.save_pretrained(directory)
    if architecture == "gpt_neox":
        end = "<|endoftext|>"
        write_tokenizer(directory, byte_level(), bos=end, eos=end, unk=end)
    elif architecture == "llama":
        write_tokenizer(directory, prefixed(), bos="<s>", eos="</s>", unk="<unk>")
    else:
        write_tokenizer(directory, t5_like(), eos="</s>", unk="<unk>", pad="<pad>")
    return directory
