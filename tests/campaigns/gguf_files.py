"""llama.cpp reads the same model from a GGUF file: ids of 1,000 texts, logits, and greedy replies.

    python -m tests.campaigns.gguf_files PYTHON      # PYTHON has llama-cpp-python; make gguf builds it

GPT-NeoX and Llama are trained for two steps, as whole models and with adapters; with TUNESMITH_REAL_DATA their
tokenizers are those of Pythia and Llama and the texts are real ones, and stories260K is a real model besides.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from unicodedata import is_normalized

import torch
import transformers

from tests.campaigns.transformers_457 import PLAIN, SHORT, train
from tests.worlds import small_recipe, write_world
from tunesmith.compose import train_recipe
from tunesmith.generate.export_directory import open_engine
from tunesmith.generate.sampling import SamplingParameters
from tunesmith.model.gguf_file import write_gguf
from tunesmith.text.tree import Message

TEXTS, PROMPTS, NEW, CONTEXT = 1000, 20, 24, 512
LOGITS = 2e-2
"""Largest difference of logits relative to the largest: llama.cpp computes GELU in 16 bits, from a table."""


@dataclass(frozen=True, slots=True)
class GgufResult:
    """What llama.cpp reads from a file.

    texts: how many were compared, and different: whose ids differ.
    logits: the largest difference, relative to the largest logit.
    replies: how many greedy replies were compared, and unequal: how many differ.
    chat: whether the chat template gives the same prompt.
    """

    texts: int
    different: int
    logits: float
    replies: int
    unequal: int
    chat: bool

    @property
    def equal(self) -> bool:
        return not self.different and not self.unequal and self.chat and self.logits <= LOGITS


def texts() -> list[str]:
    """Normalized texts: those of dolly, or made ones, and some of many languages."""
    plain = [text for text in PLAIN if is_normalized("NFC", text)]
    if (real := os.environ.get("TUNESMITH_REAL_DATA")) is None:
        made = [f"{one} {number} {two}" for number, one in enumerate(plain) for two in plain]
        return [*plain, *made][:TEXTS]
    lines = (Path(real) / "dolly" / "dolly-6000.jsonl").read_text().splitlines()[:TEXTS]
    records = [json.loads(line) for line in lines]
    found = [text for each in records for text in (each["instruction"], each["response"])]
    return [*plain, *(text for text in found if is_normalized("NFC", text))][:TEXTS]


def compare(run: Path, python: str) -> GgufResult:
    """What llama.cpp reads from the export of a run."""
    engine, _ = open_engine(run)
    engine.context = CONTEXT
    file, job, result = (run.parent / name for name in ("model.gguf", "job.json", "result.json"))
    write_gguf(run / "export", file, "model")
    sampling = SamplingParameters(do_sample=False, max_new_tokens=NEW)
    asked = [[Message("user", f"Say {text}")] for text in texts()[5 : 5 + PROMPTS]]
    prompts = [engine.renderer.prompt(messages) for messages in asked]
    replies = engine.continuations(prompts, sampling, 0)
    content = {"file": str(file), "context": CONTEXT, "texts": texts(), "prompts": prompts, "new": NEW}
    chat = [{"role": "user", "content": asked[0][0].text}]
    job.write_text(json.dumps({**content, "stops": sorted(engine.renderer.stop_ids), "chat": chat}))
    script = Path(__file__).with_name("llama_process.py")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    subprocess.run([python, str(script), str(job), str(result)], check=True, env=environment)
    found = json.loads(result.read_text())
    with torch.no_grad():
        logits = engine.model(input_ids=torch.tensor([prompts[0]])).logits[0]
    difference = float((torch.tensor(found["logits"]) - logits).abs().max() / logits.abs().max())
    ids = [list(each) for each in engine.renderer.tokenizer.encode_many(texts())]
    different = sum(mine != theirs for mine, theirs in zip(ids, found["ids"], strict=True))
    unequal = sum(list(mine.ids) != theirs for mine, theirs in zip(replies, found["replies"], strict=True))
    return GgufResult(len(ids), different, difference, len(replies), unequal, prompts[0] == found["chat"])


def runs(root: Path) -> Iterator[tuple[str, Path]]:
    """Finished runs, by name."""
    for architecture in ("gpt_neox", "llama"):
        for kind in ("full", "tied", "adapter"):
            yield f"{architecture} {kind}", train(root, architecture, kind)
    if (real := os.environ.get("TUNESMITH_REAL_DATA")) is not None:
        stories = f"{real}/models/stories260K"
        write_world(root / "stories", format="plain")
        words = ["model.init=null", f"model.path={stories}", f"model.tokenizer={stories}", "model.resize=none"]
        yield "stories260K", train_recipe(small_recipe(root / "stories", [*SHORT, *words])).directory


def main(arguments: Sequence[str]) -> int:
    (python,) = arguments
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    different = 0
    with tempfile.TemporaryDirectory() as root:
        for name, run in runs(Path(root)):
            found = compare(run, python)
            different += not found.equal
            said = f"{found.different} of {found.texts} texts and {found.unequal} of {found.replies} replies differ"
            chat = "equal" if found.chat else "differs"
            print(f"{name:16} {said}; logits {found.logits:.1g}; chat {chat}")
    print(f"{different} files differ")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
