"""An export is the same model in transformers 4.57 and 5: the same logits, replies, token ids and prompts.

    python -m tests.campaigns.transformers_457 PYTHON      # PYTHON has transformers 4.57; make versions installs it

GPT-NeoX, Llama and T5 are trained for two steps, each as a whole model, with a head that is tied to the embedding, and
with adapters. Rotary settings are not those of the families, so that a version that ignores them gives other logits. A
process that imports only torch and transformers reads every export, once in each version. With TUNESMITH_REAL_DATA the
tokenizers are those of Pythia, Llama and T5.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
import yaml
from safetensors.torch import load_file
from torch import Tensor

from tests.campaigns.families import run_stock
from tests.worlds import ARCHITECTURES, small_recipe, write_world
from tunesmith.compose import train_recipe
from tunesmith.generate.export_directory import open_engine
from tunesmith.generate.sampling import SamplingParameters
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tree import Message

FORMATS = {"gpt_neox": "dolly", "llama": "tulu", "t5": "t5-dolly"}
TOKENIZERS = {"gpt_neox": "pythia", "llama": "llama", "t5": "t5"}
ROTARY: Mapping[str, Any] = {
    "gpt_neox": {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0, "partial_rotary_factor": 0.5}},
    "llama": {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}},
    "t5": {},
}
KINDS = ("full", "tied", "adapter")
SHORT = ("train.steps=2", "train.evaluate_every=null", "train.save_every=null", "evaluate.show=0")
ADAPTER = ("model.init=null", "model.adapter={rank: 4, alpha: 64, learning_rate_factor: 3}")
TEXT, BEGUN, NEW = tuple(range(3, 43)), (5, 9, 33, 2, 60), 8
PLAIN = (
    *("", " ", "  ", "a", " a", "a ", "\n", "a\nb", "a\n\n\nb", "\t\tx", "x \t y", "a  b   c", "   deep", "end.  "),
    *("don't we've I'll", "1234567 12,345.67", "3.14e-10", "snake_case camelCase", "https://a.b/c?d=e", "$x^2$ {a}"),
    *(
        "Ünïcode naïve",
        "你好 世界",
        "猫の名前を三つ",
        "Привет, как дела?",
        "हिंदी में नमस्ते",
        "שלום עולם",
        "안녕하세요",
        "ก็ได้",
    ),
    *(
        "🤖👩‍👩‍👧‍👦",
        "a\u0301 e\u0301",
        "ﬁ Å ½",
        "a\u00a0b",
        "\u200bx\ufeff",
        "x\r\ny",
        "\x01",
        "▁ x",
        "<0x41>",
        "ß ẞ",
    ),
    *("def f(x):\n    return x\n", "- one\n- two", "| a | b |", "It's “quoted” — so", "AAAA" * 9, "..." * 7, "a" * 60),
)
CONTROLS = {
    "gpt_neox": ("<|endoftext|>", "### End", "### Instruction:", "### Response:\n"),
    "llama": ("<s>", "</s>", "<unk>", "<|user|>"),
    "t5": ("</s>", "<pad>", "<unk>", "<_LB_>"),
}


@dataclass(frozen=True, slots=True)
class VersionResult:
    """What one version of transformers reads from an export.

    logits: the largest difference from the logits of the engine, relative to the largest logit.
    reply: whether the greedy reply is the engine's.
    ids: texts whose ids differ from those of the training tokenizer, which are compared for texts without control
        tokens.
    prompt: whether the chat template gives the prompt of training.
    given: ids of all texts, for the comparison of the versions.
    """

    logits: float
    reply: bool
    ids: int
    prompt: bool
    given: list[list[int]]

    @property
    def equal(self) -> bool:
        return self.logits <= 1e-6 and self.reply and not self.ids and self.prompt


def words(architecture: str) -> list[str]:
    """Texts without control tokens, then texts with them."""
    controls = CONTROLS[architecture]
    return [*PLAIN, *(f"{text}{token}{text}" for token in controls for text in PLAIN[2::2])]


def train(root: Path, architecture: str, kind: str) -> Path:
    """The directory of a finished run."""
    directory = root / f"{architecture}-{kind}"
    write_world(directory, architecture=architecture, format=FORMATS[architecture])
    if (real := os.environ.get("TUNESMITH_REAL_DATA")) is not None:
        shutil.rmtree(directory / "tokenizer")
        shutil.copytree(Path(real, "tokenizers", TOKENIZERS[architecture]), directory / "tokenizer")
    init = {**yaml.safe_load(ARCHITECTURES[architecture]), **ROTARY[architecture]}
    init["tie_word_embeddings"] = kind == "tied"
    values = [*SHORT, f"model.init={json.dumps(init)}", "model.resize=exact"]
    run = train_recipe(small_recipe(directory, values)).directory
    if kind != "adapter":
        return run
    shutil.move(run / "export", directory / "base")
    shutil.rmtree(run)
    base = f"model.path={directory}/base"
    return train_recipe(small_recipe(directory, [*SHORT, *ADAPTER, base, "model.resize=none"])).directory


def expected(run: Path) -> tuple[Renderer, Tensor, list[int]]:
    """The renderer, the logits and the greedy reply of what was trained."""
    engine, _ = open_engine(run)
    model, ids = engine.model, torch.tensor([TEXT])
    with torch.no_grad():
        if model.config.is_encoder_decoder:
            begun = torch.tensor([[model.config.decoder_start_token_id, *BEGUN]])
            logits = model(input_ids=ids, decoder_input_ids=begun).logits[0]
        else:
            logits = model(input_ids=ids).logits[0]
    greedy = SamplingParameters(do_sample=False, max_new_tokens=NEW)
    return engine.renderer, logits, list(engine.continuations([TEXT], greedy, seed=0)[0].ids)


def compare(run: Path, name: str, architecture: str) -> VersionResult:
    """What the process ``name`` has read from the export of a run. Raises AssertionError if it could not."""
    found = json.loads((run / "export" / f"{name}.json").read_text())
    assert "error" not in found, found
    renderer, logits, reply = expected(run)
    stock = load_file(run / "export" / f"{name}.safetensors")["logits"]
    ours = renderer.tokenizer.encode_many(PLAIN)
    differ = sum(list(theirs) != list(mine) for theirs, mine in zip(found["ids"], ours, strict=False))
    prompt = found["chat"] == list(renderer.prompt([Message("user", "Say red.")]))
    same = found["reply"][: len(reply)] == reply  # a stop token ends it here only
    difference = float((stock - logits).abs().max() / logits.abs().max())
    return VersionResult(difference, same, differ, prompt, found["ids"])


def results(root: Path, pythons: Mapping[str, str]) -> Iterator[tuple[str, dict[str, VersionResult]]]:
    """(name of a run, what each version reads from its export). pythons: name of a version -> its Python."""
    runs = {(a, kind): train(root, a, kind) for a in FORMATS for kind in KINDS}
    for (architecture, kind), run in runs.items():
        job = {
            **{"text": TEXT, "begun": BEGUN, "new": NEW, "words": words(architecture)},
            "chat": [{"role": "user", "content": "Say red."}],
        }
        found = {}
        for name, python in pythons.items():
            run_stock("read", [run / "export"], python, name, job)
            found[name] = compare(run, name, architecture)
        yield f"{architecture} {kind}", found


def main(arguments: Sequence[str]) -> int:
    (old,) = arguments
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    different = 0
    with tempfile.TemporaryDirectory() as root:
        for name, found in results(Path(root), {transformers.__version__: sys.executable, "4.57": old}):
            tokens = [each.given for each in found.values()]
            equal = all(each.equal for each in found.values()) and tokens[0] == tokens[1]
            different += not equal
            said = "; ".join(
                f"{version}: logits {each.logits:.1g}, reply {'equal' if each.reply else 'differs'}, "
                f"{each.ids} texts differ, prompt {'equal' if each.prompt else 'differs'}"
                for version, each in found.items()
            )
            print(f"{name:16} {len(tokens[0])} texts {'equal' if tokens[0] == tokens[1] else 'DIFFER'}; {said}")
    print(f"{different} exports differ")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
