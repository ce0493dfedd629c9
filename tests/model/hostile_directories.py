"""Model directories that try to open other files, to run code, or to write to the terminal."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

Plant = Callable[[Path, Path], None]
"""plant(directory, outside): changes a sound model directory; ``outside`` holds files that must stay unopened."""

ESCAPE = "\x1b]0;owned\x07\x1b[2J\x9b31m"


class Payload:
    """Unpickling it writes the file ``canary``."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return (Path.touch, (self.canary,))


def set_config(**entries: Any) -> Plant:
    """Set entries of config.json."""

    def plant(directory: Path, outside: Path) -> None:
        path = directory / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))

    return plant


def config_text(text: str) -> Plant:
    """Replace config.json."""

    def plant(directory: Path, outside: Path) -> None:
        (directory / "config.json").write_text(text, encoding="latin-1")

    return plant


def pickled(name: str) -> Plant:
    """Write a pickle that runs code when it is opened."""
    return lambda directory, outside: write_pickle(directory / name, outside)


def write_pickle(path: Path, outside: Path) -> None:
    path.write_bytes(pickle.dumps(Payload(outside / "canary")))


def index(file: Any, *, name: str = "x", keep: bool = False) -> Plant:
    """An index that names ``file`` for a tensor, in place of the single file; with a decoy of safetensors."""

    def plant(directory: Path, outside: Path) -> None:
        pickled("pytorch_model.bin")(directory, outside)
        if not keep:
            (directory / "model.safetensors").rename(directory / "decoy.safetensors")
        found = file(directory, outside) if callable(file) else file
        content = {"metadata": {}, "weight_map": {name: found}}
        (directory / "model.safetensors.index.json").write_text(json.dumps(content))

    return plant


def index_text(text: str) -> Plant:
    """An index with this text, in place of the single file."""

    def plant(directory: Path, outside: Path) -> None:
        (directory / "model.safetensors").rename(directory / "decoy.safetensors")
        (directory / "model.safetensors.index.json").write_text(text)

    return plant


def replaced(name: str, make: Callable[[Path, Path], None]) -> Plant:
    """Replace a file by something else: make(path, outside)."""

    def plant(directory: Path, outside: Path) -> None:
        (directory / name).unlink(missing_ok=True)
        make(directory / name, outside)

    return plant


def link_outside(path: Path, outside: Path) -> None:
    """A link to a file outside that would be usable."""
    path.symlink_to(outside / path.name)


def link_to(target: str) -> Callable[[Path, Path], None]:
    return lambda path, outside: path.symlink_to(target)


def fifo(path: Path, outside: Path) -> None:
    os.mkfifo(path)


def tensor_named(name: str) -> Plant:
    """Rename the first tensor of the file."""

    def plant(directory: Path, outside: Path) -> None:
        path = directory / "model.safetensors"
        content = path.read_bytes()
        (size,) = struct.unpack("<Q", content[:8])
        header = json.loads(content[8 : 8 + size])
        header[name] = header.pop(next(key for key in header if key != "__metadata__"))
        text = json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + size :])

    return plant


def weights(change: Callable[[bytes], bytes]) -> Plant:
    """Change the bytes of the weights."""

    def plant(directory: Path, outside: Path) -> None:
        path = directory / "model.safetensors"
        path.write_bytes(change(path.read_bytes()))

    return plant


def further_file(name: str, content: str | bytes) -> Plant:
    def plant(directory: Path, outside: Path) -> None:
        path = directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    return plant


def adapter(directory: Path, outside: Path) -> None:
    """An adapter whose base model is elsewhere."""
    content = {"peft_type": "LORA", "base_model_name_or_path": str(outside), "r": 1, "target_modules": ["q_proj"]}
    (directory / "adapter_config.json").write_text(json.dumps(content))
    pickled("adapter_model.bin")(directory, outside)


def distributed(directory: Path, outside: Path) -> None:
    """A distributed checkpoint, whose metadata are a pickle."""
    (directory / "distributed_checkpoint").mkdir()
    pickled("distributed_checkpoint/.metadata")(directory, outside)
    pickled(".metadata")(directory, outside)


def pickle_config(**entries: Any) -> Plant:
    """Entries of config.json next to a pickle under the names that they may mean."""

    def plant(directory: Path, outside: Path) -> None:
        for name in ("adapter_model.bin", "pytorch_model.bin", "model.bin"):
            pickled(name)(directory, outside)
        set_config(**entries)(directory, outside)

    return plant


def only_pickles(directory: Path, outside: Path) -> None:
    (directory / "model.safetensors").unlink()
    pickled("pytorch_model.bin")(directory, outside)


def configuration_files(directory: Path, outside: Path) -> None:
    """config.json names another file that holds the configuration."""
    content = json.loads((directory / "config.json").read_text())
    (directory / "config.4.0.0.json").write_text(json.dumps({**content, "transformers_weights": "adapter_model.bin"}))
    pickled("adapter_model.bin")(directory, outside)
    set_config(configuration_files=["config.4.0.0.json"])(directory, outside)


CODE = "import pathlib; pathlib.Path('canary').touch()\nclass Own: pass\n"
AUTO_MAP = {"AutoConfig": "code.Own", "AutoModelForCausalLM": "code.Own"}


def own_code(directory: Path, outside: Path) -> None:
    """Classes of its own in a file of the directory."""
    set_config(auto_map=AUTO_MAP)(directory, outside)
    (directory / "code.py").write_text(CODE)


LOADED: dict[str, Plant] = {
    "kernel repository": set_config(_attn_implementation="evil/repo"),
    "kernel repository under the public name": set_config(attn_implementation="evil/repo"),
    "kernel repository under the inner name": set_config(_attn_implementation_internal="evil/repo"),
    "kernel repository for experts": set_config(_experts_implementation="evil/repo", experts_implementation="x/y"),
    "code of its own": own_code,
    "pipelines of its own": set_config(custom_pipelines={"text-generation": {"impl": "code.Own", "pt": ["Own"]}}),
    "code for generation": further_file("custom_generate/generate.py", CODE),
    "another configuration file": configuration_files,
    "adapter beside the model": adapter,
    "distributed checkpoint": distributed,
    "methods replaced": set_config(
        to_dict=1, get_text_config="x", save_pretrained=[], attribute_map={"vocab_size": "x"}
    ),
    "parallel plan": set_config(base_model_tp_plan={"*": "evil"}, distributed_config={"tp_size": 9}, device_map="disk"),
    "fusion of kernels": set_config(
        fusion_config={"patch_embeddings": True}, use_kernels=True, kernel_config={"a": "b"}
    ),
    "unknown entry with an escape in its name": set_config(**{ESCAPE: ESCAPE}),
    "pickle beside the model": pickled("pytorch_model.bin"),
    "index beside the model": index("../outside/model.safetensors", keep=True),
}
"""Directories that load as if the planted part were not there."""

REFUSED: dict[str, Plant] = {
    "index names a pickle": index("pytorch_model.bin"),
    "index names a pickle of safetensors' suffix elsewhere": index(lambda directory, outside: str(outside / "a.bin")),
    "index leaves the directory": index("../outside/model.safetensors"),
    "index leaves the directory in the middle": index("sub/../../outside/model.safetensors"),
    "index has an absolute path": index(lambda directory, outside: str(outside / "model.safetensors")),
    "index names a device": index("/dev/zero"),
    "index names standard input": index("/dev/stdin"),
    "index names a number": index(7),
    "index names nothing": index(""),
    "index names a missing file": index("gone.safetensors"),
    "index names a name with an escape": index(f"{ESCAPE}.safetensors"),
    "index is a list": index_text("[1]"),
    "index has no map": index_text('{"weight_map": [1]}'),
    "index is deeply nested": index_text("[" * 100_000),
    "index is empty": index_text('{"weight_map": {}}'),
    "weights named by the configuration, pickled": pickle_config(transformers_weights="adapter_model.bin"),
    "weights named by the configuration, outside": set_config(transformers_weights="../outside/model.safetensors"),
    "weights are a link outside": replaced("model.safetensors", link_outside),
    "weights are a link to a device": replaced("model.safetensors", link_to("/dev/zero")),
    "weights are a queue": replaced("model.safetensors", fifo),
    "weights are a directory": replaced("model.safetensors", lambda path, outside: path.mkdir()),
    "configuration is a link outside": replaced("config.json", link_outside),
    "configuration is a queue": replaced("config.json", fifo),
    "configuration is a device": replaced("config.json", link_to("/dev/zero")),
    "configuration of generation is a queue": replaced("generation_config.json", fifo),
    "configuration of generation is a link outside": replaced("generation_config.json", link_outside),
    "only pickles": only_pickles,
    "tensor with an escape in its name": tensor_named(ESCAPE),
    "tensor with a line break in its name": tensor_named("a\nb"),
    "header of 2^60 bytes": weights(lambda content: struct.pack("<Q", 1 << 60) + content[8:]),
    "tensor without a shape": weights(lambda content: content.replace(b'"shape":', b'"shapf":', 1)),
    "shape that is no list of numbers": weights(lambda content: content.replace(b'"shape":[', b'"shape":["",', 1)),
    "header that is no object": weights(lambda content: struct.pack("<Q", 2) + b"[]" + content),
    "weights are cut": weights(lambda content: content[: len(content) // 2]),
    "weights are empty": weights(lambda content: b""),
    "quantised weights": set_config(quantization_config={"quant_method": "gptq", "bits": 4}),
    "quantised weights of another kind": set_config(compression_config={"quant_method": "x"}),
    "number format is a function": set_config(dtype="load", torch_dtype="load"),
    "configuration is deeply nested": config_text('{"model_type": ' + "[" * 100_000),
    "configuration is a list": config_text("[]"),
    "configuration is no UTF-8": config_text('{"model_type": "\xff"}'),
    "kind is a list": set_config(model_type=["llama"]),
    "kind is unknown with an escape": set_config(model_type=ESCAPE),
    "architectures are numbers": set_config(architectures=[1]),
    "size is text": set_config(hidden_size="x"),
    "size is zero": set_config(hidden_size=0),
    "size is negative": set_config(hidden_size=-32),
    "size is huge": set_config(vocab_size=10**30),
    "layers without weights": set_config(num_hidden_layers=10**6),
    "another kind, whose usual sizes are huge": set_config(model_type="llama4_text"),
    "flag that is a list": set_config(is_encoder_decoder=[[[]]]),
    "token that is an object": set_config(decoder_start_token_id={"x": 1}),
    "negative number of positions": set_config(max_position_embeddings=-1),
    "modules without end": set_config(num_attention_heads=10**6),
    "labels without end": set_config(num_labels=10**9),
    "labels are text": set_config(id2label={"x": "y"}),
    "names of the tree are objects": set_config(architectures={"a": 1}),
    "rotary settings are text": set_config(rope_parameters="x"),
    "activation is unknown": set_config(hidden_act=ESCAPE),
    "generation is a list": further_file("generation_config.json", "[]"),
}
"""Directories that are refused with one line."""


def write_outside(outside: Path, sound: Path) -> None:
    """Fill the directory outside with files that a model could be read from."""
    outside.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(sound / name, outside / name)
    (outside / "generation_config.json").write_text("{}")
    (outside / "a.bin").write_bytes(pickle.dumps(Payload(outside / "canary")))
