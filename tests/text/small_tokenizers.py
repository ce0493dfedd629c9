"""Small tokenizers of every kind, trained here in a moment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as Library

CORPUS = [
    "The cat sat on the mat and the dog sat by the door. What is the name of the river?",
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.",
    "### Instruction:\nName three rivers.\n\n"
    "### Response:\nThe Douro, the Tejo and the Mondego.\n\n### End\n\nInput:\n",
    "<|user|>\nHello!\n<|assistant|>\nHi, how can I help you?\n<|system|>\nBe brief. system user assistant\n",
    "def f(x):\n    return x + 1\n\n\nfor i in range(10):\n        print(i)\n\tdone\r\n",
    "Über den Wolken, où est-il ? ¿Qué hora es? Привет, мир. 你好世界。 12345 67890",
] * 8


def write_tokenizer(directory: Path, content: dict[str, Any], **names: str) -> Path:
    """Write a tokenizer directory; ``names`` are bos, eos, unk, pad."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    config |= {f"{symbol}_token": name for symbol, name in names.items()}
    (directory / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return directory


def byte_level() -> dict[str, Any]:
    """As the Pythia vocabulary: byte-level BPE, NFC, two special tokens first, runs of spaces as added tokens last."""
    library = Library(models.BPE())
    library.normalizer = normalizers.NFC()
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.post_processor = processors.ByteLevel(trim_offsets=True)
    library.decoder = decoders.ByteLevel()
    specials = ["<|endoftext|>", "<|padding|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    library.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(vocab_size=420, special_tokens=specials, initial_alphabet=alphabet, show_progress=False),
    )
    library.add_tokens([AddedToken(" " * count, normalized=True) for count in range(8, 1, -1)])
    content: dict[str, Any] = json.loads(library.to_str())
    return content


def prefixed() -> dict[str, Any]:
    """As the Llama vocabulary: a space before every run, no pre-tokenizer, single bytes for what is unknown."""
    library = Library(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    library.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    library.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    library.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    specials = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    words = [word for line in CORPUS for word in line.replace("你好世界。", "").split(" ")]
    library.train_from_iterator(
        words, trainers.BpeTrainer(vocab_size=520, special_tokens=specials, show_progress=False)
    )
    content: dict[str, Any] = json.loads(library.to_str())
    content["added_tokens"] = content["added_tokens"][:3]
    return content


def unigram() -> dict[str, Any]:
    """As the T5 vocabulary: the end token is a piece of the model, which therefore finds it in text."""
    letters = sorted(set("".join(CORPUS)) - set(" \n\t\r<"))
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), ("▁the", -4.0), ("at", -4.0)]
    library = Library(models.Unigram(pieces + [(letter, -6.0) for letter in letters if letter != "▁"], unk_id=2))
    library.pre_tokenizer = pre_tokenizers.Metaspace()
    library.decoder = decoders.Metaspace()
    library.add_special_tokens(["<pad>", "</s>", "<unk>"])
    content: dict[str, Any] = json.loads(library.to_str())
    return content


def t5_like() -> dict[str, Any]:
    """The same with the pieces that the marks of line breaks and tabs need; ``<`` stays unknown, as it is to T5."""
    content = unigram()
    content["model"]["vocab"] += [["_", -7.0], ["LB", -9.0]]
    words_first = {"type": "WhitespaceSplit"}
    content["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [words_first, content["pre_tokenizer"]]}
    return content


def words() -> dict[str, Any]:
    """Whole words; the vocabulary holds the end token as a word, and it is not marked as special."""
    vocabulary = {"[UNK]": 0, "<eos>": 1, "hello": 2, "world": 3, "<": 4}
    library = Library(models.WordLevel(vocabulary, unk_token="[UNK]"))
    library.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    content: dict[str, Any] = json.loads(library.to_str())
    return content
