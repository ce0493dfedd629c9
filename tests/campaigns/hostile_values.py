"""Hostile configurations, weights, files of exports and adapters."""

from __future__ import annotations

import json
import math
import os
import random
import struct
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from transformers import CONFIG_MAPPING

from tests.campaigns.hostile_world import Trial, change_json
from tests.model.hostile_directories import ESCAPE, LOADED, REFUSED, write_pickle

Artefact = Callable[[Trial], str]
"""Makes the model of a trial hostile; returns what was done, in words."""

NESTED = 100_000
LONG = 300_000
SIZES = (0, -1, 1, 2, 3, 7, 1000, 10**5, 10**6, 10**7, 10**9, 2**31 - 1, 2**31, 2**40, 2**63, 10**30, -(2**40))
TEXTS = (
    "",
    "x",
    ESCAPE,
    "../outside/model.safetensors",
    "/dev/zero",
    "\u202e\x00",
    "evil/repo",
    "load",
    "$(touch canary)",
)
NAMES = ("auto", "eager", "silu", "linear", "dynamic", "yarn", "llama3", "longrope", "gelu_new", "relu", "default")


def hostile_value(draw: random.Random, sound: Any = None) -> Any:
    """A value of any type and size, or a sound one changed inside."""
    kind = draw.randrange(12)
    if kind == 0 and isinstance(sound, dict | list) and sound:
        return change_inside(draw, sound)
    if kind == 1 and isinstance(sound, int | float) and not isinstance(sound, bool):
        return draw.choice((sound * 10**3, sound * 10**6, -sound, sound + 1, sound * 0.5, str(sound), [sound]))
    if kind <= 4:
        return draw.choice(SIZES)
    if kind == 5:
        return draw.choice((math.nan, math.inf, -math.inf, 1e308, 1e-320, -0.0, 0.5, 1e19))
    if kind == 6:
        return draw.choice((*TEXTS, *NAMES, "x" * LONG))
    if kind == 7:
        return draw.choice((True, False, None))
    if kind == 8:
        return draw.choice(([], [0], [None] * 3, ["x", 1, {}], list(range(LONG)), [[[[]]]], nested(50)))
    if kind == 9:
        return draw.choice(({}, {"x": 1}, {ESCAPE: ESCAPE}, {"model_type": "gpt2"}, {"type": "yarn", "factor": 1e308}))
    if kind == 10:
        return {"rope_type": draw.choice(NAMES), "factor": draw.choice((0, -1, "x", 10**30)), "rope_theta": 0}
    return hostile_value(draw, sound)


def change_inside(draw: random.Random, sound: Any) -> Any:
    """A container with one entry changed, removed or added."""
    if isinstance(sound, dict):
        key = draw.choice([*sound, "added"])
        changed = {**sound, key: hostile_value(draw, sound.get(key))}
        return {name: value for name, value in changed.items() if name != key} if draw.random() < 0.2 else changed
    place = draw.randrange(len(sound))
    return [*sound[:place], hostile_value(draw, sound[place]), *sound[place + draw.randrange(2) :]]


def nested(depth: int) -> Any:
    """Lists in lists."""
    found: Any = []
    for _ in range(depth):
        found = [found]
    return found


KEYS = (
    *("num_labels", "id2label", "label2id", "auto_map", "_attn_implementation", "quantization_config", "torch_dtype"),
    *("rope_scaling", "rope_parameters", "layer_types", "sliding_window", "max_position_embeddings", "pad_token_id"),
    *("num_local_experts", "per_layer_config", "tp_plan", "pruned_heads", "task_specific_params", "attribute_map"),
    *("text_config", "vision_config", "sub_configs", "head_dim", "hidden_act", "feed_forward_proj", "rotary_pct"),
    *("decoder_start_token_id", "forced_eos_token_id", "chunk_size_feed_forward", "num_decoder_layers", "is_decoder"),
    *("transformers_version", "problem_type", "tokenizer_class", "use_cache", "dtype", "architectures", "model_type"),
    *("logit_scale", "final_logit_softcapping", "tie_word_embeddings", "is_encoder_decoder", "add_cross_attention"),
)


def config_value(trial: Trial) -> str:
    """One or two entries of a sound configuration with another value."""
    path = trial.model / "config.json"
    content = json.loads(path.read_text())
    known = sorted({*content, *(field.name for field in fields(CONFIG_MAPPING[content["model_type"]]))})
    keys = [trial.draw.choice(known if trial.draw.random() < 0.7 else KEYS) for _ in range(trial.draw.randint(1, 2))]
    values = {key: hostile_value(trial.draw, content.get(key)) for key in keys}
    path.write_text(json.dumps({**content, **values}))
    return f"config {shown(values)}"


def config_kind(trial: Trial) -> str:
    """Another known model type, on the weights of this one."""
    kind = trial.draw.choice([*sorted(CONFIG_MAPPING.keys()), "unknown", ESCAPE])
    change_json(trial.model / "config.json", model_type=kind)
    return f"model_type {kind!r}"


def json_text(name: str) -> Artefact:
    """A JSON file with text that is no object, no JSON, or too deep."""

    def artefact(trial: Trial) -> str:
        path, draw = trial.model / name, trial.draw
        sound = path.read_bytes() if path.is_file() else b"{}"
        texts = {
            "deep list": b"[" * NESTED,
            "deep object": b'{"a":' * NESTED + b"1" + b"}" * NESTED,
            "list": b"[1, 2]",
            "number": b"7",
            "text": b'"x"',
            "null": b"null",
            "empty": b"",
            "huge number": b'{"vocab_size": ' + b"9" * 10_000 + b"}",
            "no UTF-8": sound[:-1] + b', "a": "\xff"}',
            "UTF-16": sound.decode().encode("utf-16"),
            "cut": sound[: draw.randrange(len(sound))],
            "bit": flip(draw, sound),
            "surrogate": sound.rstrip()[:-1] + b', "hidden_act": "\\ud800"}',
            "many keys": json.dumps({f"k{number}": number for number in range(200_000)}).encode(),
            "twice": sound.rstrip()[:-1] + b"," + sound.lstrip()[1:],
        }
        kind = draw.choice(sorted(texts))
        path.write_bytes(texts[kind])
        return f"{name}: {kind}"

    return artefact


def deep_entry(name: str) -> Artefact:
    """An entry with a value that is nested just below what the reader of JSON refuses."""

    def artefact(trial: Trial) -> str:
        path = trial.model / name
        content = json.loads(path.read_text()) if path.is_file() else {}
        key, depth = trial.draw.choice([*sorted(content), "own"]), trial.draw.choice((200, 900, 980, 20_000))
        marks = ("[", "]") if trial.draw.random() < 0.5 else ('{"a":', "}")
        text = marks[0] * depth + "1" + marks[1] * depth
        rest = json.dumps({other: value for other, value in content.items() if other != key})
        path.write_text(rest[:-1] + (", " if len(rest) > 2 else "") + f"{json.dumps(key)}: {text}}}")
        return f"{name}: {key} nested {depth} deep"

    return artefact


def not_a_file(names: tuple[str, ...], *, linked: bool = True) -> Artefact:
    """A queue, a directory, a device or a link instead of a file. linked: also a link to a sound file outside."""

    def artefact(trial: Trial) -> str:
        name = trial.draw.choice(names)
        kinds: Mapping[str, Callable[[Path], Any]] = {
            "queue": os.mkfifo,
            "directory": lambda path: path.mkdir(),
            "/dev/zero": lambda path: path.symlink_to("/dev/zero"),
            "/dev/stdin": lambda path: path.symlink_to("/dev/stdin"),
            "outside": lambda path: path.symlink_to(trial.outside / "model.safetensors"),
            "outside, relative": lambda path: path.symlink_to("../outside/config.json"),
            "itself": lambda path: path.symlink_to(path.name),
            "hole": lambda path: os.truncate(os.open(path, os.O_CREAT | os.O_WRONLY), 1 << 40),
        }
        kind = trial.draw.choice(sorted(kind for kind in kinds if linked or "outside" not in kind))
        (trial.model / name).unlink(missing_ok=True)
        kinds[kind](trial.model / name)
        return f"{name} is {kind}"

    return artefact


def known_directory(trial: Trial) -> str:
    """One of the directories of the default tests."""
    cases = {**LOADED, **REFUSED}
    name = trial.draw.choice(sorted(cases))
    cases[name](trial.model, trial.outside)
    return name


def weights_header(trial: Trial) -> str:
    """Lies in the header of the weights."""
    path, draw = trial.model / "model.safetensors", trial.draw
    (trial.model / "tunesmith-manifest.json").unlink(missing_ok=True)
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    header, data = json.loads(content[8 : 8 + size]), content[8 + size :]
    name = draw.choice(sorted(key for key in header if key != "__metadata__"))
    kind = draw.choice(("shape", "dtype", "offsets", "name", "entry", "many", "deep", "length", "bit", "cut", "rows"))
    if kind in ("shape", "dtype"):
        header[name][kind] = hostile_value(draw, header[name][kind])
    elif kind == "offsets":
        header[name]["data_offsets"] = draw.choice(
            ([0, 2**63], [-1, 4], [4, 0], [0], "x", [0, len(data) + 1], [0.0, 4])
        )
    elif kind == "name":
        header[draw.choice((ESCAPE, "a\nb", "x" * LONG, "", "../x", "model.layers.999999999.weight"))] = header.pop(
            name
        )
    elif kind == "entry":
        header[name] = hostile_value(draw)
    elif kind == "many":
        header |= {
            f"model.layers.{n}.x": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for n in range(200_000)
        }
    elif kind == "deep":
        header["__metadata__"] = {"x": nested(400)}
    elif kind == "rows":
        header[name]["shape"] = [draw.choice((2**20, 2**31, 2**62)), *header[name]["shape"][1:]]
    text = json.dumps(header).encode()
    length = draw.choice((0, 1, 2**31, 2**63, 10**8, len(text) - 1)) if kind == "length" else len(text)
    changed = struct.pack("<Q", length) + text + data
    if kind in ("bit", "cut"):
        changed = flip(draw, changed) if kind == "bit" else changed[: draw.randrange(len(changed))]
    path.write_bytes(changed)
    return f"weights: {kind} of {name[:60]}"


def weights_index(trial: Trial) -> str:
    """An index that names anything."""
    draw, sound = trial.draw, trial.model / "model.safetensors"
    write_pickle(trial.model / "pytorch_model.bin", trial.outside)
    sound.rename(trial.model / "decoy.safetensors")
    names = (
        *("decoy.safetensors", "pytorch_model.bin", "../outside/model.safetensors", "/dev/zero", "./decoy.safetensors"),
        *(
            "a/../decoy.safetensors",
            "decoy.safetensors\x00",
            f"{ESCAPE}.safetensors",
            "..%2foutside%2fmodel.safetensors",
        ),
        *(str(trial.outside / "model.safetensors"), "x" * 5000 + ".safetensors", "-.safetensors", "~/x.safetensors"),
    )
    file = draw.choice(names) if draw.random() < 0.6 else hostile_value(draw)
    number = draw.choice((1, 2, 1000))
    content: Any = {"metadata": {}, "weight_map": {f"tensor.{n}": file for n in range(number)}}
    if draw.random() < 0.2:
        content = change_inside(draw, content)
    (trial.model / "model.safetensors.index.json").write_text(json.dumps(content))
    return f"index names {shown(file)}"


def object_value(name: str) -> Artefact:
    """One entry of a JSON file of an export with another value."""

    def artefact(trial: Trial) -> str:
        path, draw = trial.model / name, trial.draw
        content = json.loads(path.read_text()) if path.is_file() else {}
        more = GENERATION_KEYS if name == "generation_config.json" else EXPORT_KEYS if name == "tunesmith.json" else ()
        keys = [draw.choice([*sorted(content), *more, "own"]) for _ in range(draw.randint(1, 2))]
        values = {key: hostile_value(draw, content.get(key)) for key in keys}
        path.write_text(json.dumps({**content, **values}))
        return f"{name}: {shown(values)}"

    return artefact


GENERATION_KEYS = (
    *("eos_token_id", "pad_token_id", "bos_token_id", "max_length", "max_new_tokens", "num_beams", "temperature"),
    *("top_k", "top_p", "cache_implementation", "compile_config", "custom_generate", "watermarking_config"),
    *(
        "stop_strings",
        "assistant_model",
        "prompt_lookup_num_tokens",
        "sequence_bias",
        "bad_words_ids",
        "generation_kwargs",
    ),
)
EXPORT_KEYS = ("format", "options", "max_length", "sampling", "base", "recipe", "steps", "kind", "rows")


def export_sampling(trial: Trial) -> str:
    """Sampling settings of an export with hostile values."""
    draw = trial.draw
    keys = (
        "max_new_tokens",
        "temperature",
        "top_k",
        "top_p",
        "do_sample",
        "stop",
        "repetition_penalty",
        "min_p",
        ESCAPE,
    )
    values = {draw.choice(keys): hostile_value(draw) for _ in range(draw.randint(1, 3))}
    change_json(trial.model / "tunesmith.json", sampling=values)
    return f"sampling {shown(values)}"


def adapter_value(trial: Trial) -> str:
    """One or two entries of an adapter's configuration with another value."""
    path, draw = trial.model / "adapter_config.json", trial.draw
    content = json.loads(path.read_text())
    more = (
        "modules_to_save",
        "trainable_token_indices",
        "rank_pattern",
        "alpha_pattern",
        "auto_mapping",
        "corda_config",
    )
    values = {key: hostile_value(draw, content.get(key)) for key in draw.sample([*sorted(content), *more], 2)}
    if draw.random() < 0.3:
        base = draw.choice(
            (str(trial.outside), "../outside", "/dev/zero", ".", "base/../base", "~", ESCAPE, "x" * 5000)
        )
        values["base_model_name_or_path"] = base
    path.write_text(json.dumps({**content, **values}))
    return f"adapter {shown(values)}"


def flip(draw: random.Random, content: bytes) -> bytes:
    """The content with one bit changed."""
    place = draw.randrange(len(content))
    return content[:place] + bytes([content[place] ^ (1 << draw.randrange(8))]) + content[place + 1 :]


def shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 200 else f"{text[:200]}... ({len(text):,} characters)"
