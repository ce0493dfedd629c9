"""Sound models, exports and adapters that the campaign makes hostile, and the commands that use them."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file

from tests.campaigns.hostile_process import run_forked
from tests.model.hostile_directories import write_outside
from tests.text.small_tokenizers import byte_level, prefixed, t5_like, write_tokenizer
from tests.worlds import ARCHITECTURES, write_world
from tunesmith.model.export import ExportInfo, export
from tunesmith.model.export_manifest import EXPORT_MANIFEST, write_export_manifest
from tunesmith.model.load import new_model
from tunesmith.model.reward_model import new_reward_model, padding_id, set_padding
from tunesmith.text.formats.registry import build_format
from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.text.tokens.render import Renderer

END = "<|endoftext|>"
TEMPLATE = (
    "{% for message in messages %}{{ message['role'] + ': ' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
FORMATS = {"llama": "oasst", "gpt_neox": "dolly", "t5": "t5-dolly"}
TINY = (
    *("model.init=null", "model.tokenizer=null", "model.resize=grow", "data.validation=0", "text.max_length=250"),
    *("model.change_format=true", "model.residual_dropout=0"),
    *("train.steps=1", "train.batch_size=2", "train.evaluate_every=null", "train.save_every=null"),
)
RECORDS = 8


@dataclass(frozen=True, slots=True)
class Trial:
    """A directory for one artefact.

    root: the working directory of the command.
    model: a sound model directory, which is made hostile.
    outside: files that must stay unopened.
    family: name of the sound model.
    draw: the only source of chance.
    """

    root: Path
    model: Path
    outside: Path
    family: str
    draw: random.Random


class SoundModels:
    """Tiny sound models of three families, an export of a reward model and one of adapters, below a directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True)
        for name in FORMATS:
            self._write_model(name)
        self._write_reward()
        self._write_adapter()
        self.recipe = write_world(root / "world", records=RECORDS)
        self._write_run()
        row = {"messages": [{"role": "user", "content": "Say red."}, {"role": "assistant", "content": "red"}]}
        (root / "conversations.jsonl").write_text(json.dumps(row) + "\n")

    def prepare(self, name: str, root: Path, draw: random.Random) -> Trial:
        """A copy of a sound model for one trial. name: a family, ``reward`` or ``adapter``."""
        shutil.copytree(self.root / name, root / "model", symlinks=True)
        family = name if name in FORMATS else "llama"
        write_outside(root / "outside", self.root / family)
        return Trial(root, root / "model", root / "outside", family, draw)

    def command(self, kind: str, trial: Trial) -> list[str]:
        """The words of a command that uses the model of a trial."""
        return COMMANDS[kind](self, trial)

    def recipe_words(self, command: str, trial: Trial) -> list[str]:
        """A command of a recipe whose model is that of the trial."""
        places = (f"model.path={trial.model}", f"data.cache={trial.root / 'cache'}", f"run.directory={trial.root}/run")
        format = FORMATS[trial.family]
        return [command, str(self.recipe), *TINY, *places, f"text.format={format}"]

    def _tokenizer(self, name: str) -> Path:
        directory = self.root / f"tokenizer-{name}"
        if name == "t5":
            return write_tokenizer(directory, t5_like(), eos="</s>", unk="<unk>", pad="<pad>")
        if name == "llama":
            return write_tokenizer(directory, prefixed(), bos="<s>", eos="</s>", unk="<unk>")
        return write_tokenizer(directory, byte_level(), bos=END, eos=END, unk=END)

    def _write_model(self, name: str) -> None:
        format = build_format(FORMATS[name])
        tokenizer = Tokenizer.load(str(self._tokenizer(name)), format.controls)
        model = new_model(yaml.safe_load(ARCHITECTURES[name]), tokenizer.size, 1)
        info = ExportInfo(FORMATS[name], {}, 96, {"max_new_tokens": 2, "do_sample": False}, "base", "recipe", 3)
        export(self.root / name, model, tokenizer, format, info)
        change_json(self.root / name / "tokenizer_config.json", chat_template=TEMPLATE)
        (self.root / name / EXPORT_MANIFEST).unlink()
        write_export_manifest(self.root / name, "origin")

    def _write_run(self) -> None:
        """A finished run of one step. It is trained in a child: a process that has trained cannot be copied."""
        place = self.root / "training"
        place.mkdir()
        write_outside(place / "outside", self.root / "llama")
        given = ["data.validation=0", "train.steps=1", "train.evaluate_every=null", "train.save_every=null"]
        words = ["train", str(self.recipe), *given, f"run.directory={self.root / 'run'}"]
        ending = run_forked(words, place, place / "outside", "")
        if ending.code:
            raise RuntimeError(ending.output)

    def _write_reward(self) -> None:
        format = build_format("oasst")
        tokenizer = Tokenizer.load(str(self._tokenizer("llama")), format.controls)
        model = new_reward_model(yaml.safe_load(ARCHITECTURES["llama"]), tokenizer.size, 2)
        set_padding(model, padding_id(Renderer(format, tokenizer)))
        export(
            self.root / "reward", model, tokenizer, format, ExportInfo("oasst", {}, 64, {}, "b", "r", 3, kind="reward")
        )

    def _write_adapter(self) -> None:
        directory = self.root / "adapter"
        shutil.copytree(self.root / "llama", directory / "base")
        rows = {"base_model_name_or_path": "base", "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 2}
        change_json(directory / "adapter_config.json", **rows, lora_alpha=4, target_modules=["q_proj"])
        name = "base_model.model.model.layers.0.self_attn.q_proj.lora"
        torch.manual_seed(1)
        tensors = {f"{name}_A.weight": torch.randn(2, 32), f"{name}_B.weight": torch.randn(32, 2)}
        save_file(tensors, directory / "adapter_model.safetensors", metadata={"format": "pt"})
        for name in ("tunesmith.json", "tokenizer.json", "tokenizer_config.json"):
            shutil.copy(self.root / "llama" / name, directory / name)


def change_json(path: Path, **entries: Any) -> None:
    """Set entries of a JSON object."""
    content = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps({**content, **entries}))


def _chat(models: SoundModels, trial: Trial, *more: str) -> list[str]:
    return ["chat", str(trial.model), "max_new_tokens=2", "--seed", "1", *more]


def _chat_with_template(models: SoundModels, trial: Trial) -> list[str]:
    """Chat in the format of the chat template; the model declares no other format."""
    description = trial.model / "tunesmith.json"
    if description.is_file() and b'"format": "tokenizer"' in description.read_bytes():
        return _chat(models, trial)
    description.unlink(missing_ok=True)
    return _chat(models, trial, "--format", "tokenizer")


COMMANDS: Mapping[str, Callable[[SoundModels, Trial], list[str]]] = {
    "chat": _chat,
    "chat with its template": _chat_with_template,
    "check": lambda models, trial: [*models.recipe_words("check", trial), "--output", str(trial.root / "check")],
    "check with its template": lambda models, trial: [
        *(*models.recipe_words("check", trial), "text.format=tokenizer"),
        *("--no-model", "--output", str(trial.root / "check")),
    ],
    "train": lambda models, trial: models.recipe_words("train", trial),
    "plan": lambda models, trial: [*models.recipe_words("plan", trial), "--gpu", "h100"],
    "score": lambda models, trial: ["score", str(trial.model), str(models.root / "conversations.jsonl")],
    "verify": lambda models, trial: ["verify", str(trial.model)],
    "export": lambda models, trial: ["export", str(trial.model), "--output", str(trial.root / "exported")],
}
