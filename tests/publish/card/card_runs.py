"""Finished runs of the built-in recipes on a tiny model, with data at the places that the recipes name."""

from __future__ import annotations

import contextlib
import gzip
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from transformers import LlamaConfig, LlamaForCausalLM

from tests.apps.reports import write_report
from tests.benchmark.test_tables import model_scores, results_of
from tests.text.small_tokenizers import byte_level, prefixed, t5_like, write_tokenizer
from tunesmith.apps.sampling_reports import read_report, report_key
from tunesmith.benchmark.suites import DOLLY
from tunesmith.benchmark.tables import as_json
from tunesmith.compose import train_recipe
from tunesmith.generate.model_identity import model_fingerprint
from tunesmith.publish.card.data_survey import DataSurvey, SourceDigests, survey_data, write_survey
from tunesmith.recipe.load import load
from tunesmith.text.tokenizer.tokenizer import Tokenizer

PYTHIA = ("pythia-2.8b", "pythia-6.9b", "pythia-12b", "pythia-12b-deduped")
END = "<|endoftext|>"
SMALL = ["model.init.hidden_size=16", "model.init.intermediate_size=32", "model.init.num_hidden_layers=1"]
SMALL += ["model.init.num_attention_heads=2"]
SMALL_T5 = ["model.init.d_model=16", "model.init.d_kv=8", "model.init.d_ff=32", "model.init.num_layers=1"]
SMALL_T5 += ["model.init.num_heads=2"]
SHORT = ["train.epochs=null", "train.steps=2", "train.batch_size=4", "train.batch_unit=examples", "data.workers=0"]
SHORT += ["train.evaluate_every=2", "data.cache=cache", "data.validation=4"]
OASST = [*SHORT, "train.schedule.warmup_steps=2"]
RECIPES: dict[str, list[str]] = {
    **{f"dolly-v2-{size}": ["tiny", *SMALL, *SHORT] for size in ("3b", "7b", "12b")},
    "oasst-sft-1-pythia-12b": ["tiny", *SMALL, *OASST],
    "oasst-sft-4-pythia-12b": ["tiny", *SMALL, *OASST],
    "flan-t5-dolly-xxl": ["tiny-t5", *SMALL_T5, *SHORT, "evaluate.replies=2", "evaluate.max_new_tokens=8"],
    # The base model of this one is there, as a small model of the same family.
    "tulu-2.5-dpo-13b-uf-overall": ["tiny", *SHORT, "model.init=null", "model.path=allenai/tulu-2-13b",
                                    "data.sources.0.split=null"],
}  # fmt: skip
ENGLISH = "It was a quiet morning in the village, and the people who live by the river went to the old market together"
GERMAN = "Es war ein ruhiger Morgen im Dorf, und die Leute am Fluss gingen gemeinsam zum alten Markt, um Brot zu kaufen"


def write_world(root: Path) -> None:
    """Write the data, tokenizers and base model where the recipes look for them, relative to ``root``."""
    rows = [
        {"instruction": f"Tell me about day {n}.", "context": "", "response": f"{ENGLISH}, {n}.", "category": "open_qa"}
        for n in range(24)
    ]
    _write_lines(root / "databricks/databricks-dolly-15k/train.jsonl", rows)
    alpaca = [{"instruction": f"Write {n}.", "input": "", "output": f"{ENGLISH}, {n}."} for n in range(12)]
    _write_lines(root / "yahma/alpaca-cleaned/train.jsonl", alpaca)
    pairs = [_pair(number) for number in range(24)]
    _write_lines(root / "allenai/tulu-2.5-preference-data/train.jsonl", pairs)
    (root / "data").mkdir()
    trees = "".join(json.dumps(_tree(number)) + "\n" for number in range(16))
    (root / "data/2023-04-12_oasst_ready.trees.jsonl.gz").write_bytes(gzip.compress(trees.encode()))
    for name in (*(f"EleutherAI/{each}" for each in PYTHIA), "andreaskoepf/pythia-12b-pre-2000"):
        write_tokenizer(root / name, byte_level(), bos=END, eos=END, unk=END)
    write_tokenizer(root / "google/flan-t5-xxl", t5_like(), eos="</s>", unk="<unk>", pad="<pad>")
    base = write_tokenizer(root / "allenai/tulu-2-13b", prefixed(), bos="<s>", eos="</s>", unk="<unk>")
    config = LlamaConfig(
        vocab_size=Tokenizer.load(str(base)).size, hidden_size=16, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=512, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(base)


def _write_lines(path: Path, rows: Sequence[object]) -> None:
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _pair(number: int) -> dict[str, object]:
    question = {"role": "user", "content": f"Tell me about day {number}."}
    replies = {"chosen": f"{ENGLISH}, {number}.", "rejected": "No, I will not do that today."}
    return {side: [question, {"role": "assistant", "content": text}] for side, text in replies.items()}


def _tree(number: int) -> dict[str, object]:
    """A question and a reply; every fourth one is German."""
    language, text = ("de", GERMAN) if number % 4 == 3 else ("en", ENGLISH)
    shared = {"lang": language, "review_result": True, "deleted": False, "synthetic": False}
    reply = {"message_id": f"r{number}", "role": "assistant", "text": f"{text}, {number}.", "replies": [], **shared}
    prompt = {"message_id": f"p{number}", "role": "prompter", "text": f"{text}?", "replies": [reply], **shared}
    return {"message_tree_id": f"p{number}", "tree_state": "ready_for_export", "prompt": prompt}


def train_run(root: Path, name: str) -> Path:
    """The directory of the run of a recipe in the world at ``root``; its data are surveyed while they are there."""
    with contextlib.chdir(root):
        layer, *values = RECIPES[name]
        loaded = load([name, layer], [*values, f"run.directory={root / 'runs' / name}"])
        run = train_recipe(loaded).directory
        manifest = json.loads((run / "manifest.json").read_text())
        survey = survey_data(run, loaded.recipe, SourceDigests(manifest["data"]["sources"], {}), 24, ignore)
        assert survey is not None
        return run


def ignore(done: int, total: int | None, label: str) -> None:
    """A progress that is not shown."""


def copy_run(run: Path, target: Path) -> Path:
    """The same run in another place."""
    shutil.copytree(run, target)
    return target


def as_from_hub(run: Path) -> None:
    """Let a run say that its data and models came from the hub, whose names the recipes have."""
    survey, manifest = (json.loads((run / name).read_text()) for name in ("data-survey.json", "manifest.json"))
    del survey["seal"]
    survey["hub"] = [name for name in manifest["data"]["sources"] if name != "oasst"]
    manifest["hub"] = {"allenai/tulu-2-13b": "0" * 40}
    write_survey(run, DataSurvey(**survey))
    (run / "manifest.json").write_text(json.dumps(manifest))


def add_results(run: Path) -> None:
    """Results of benchmarks, with another model, and replies that were sampled, both of the exported weights."""
    digest = model_fingerprint(run / "export")
    own = model_scores("mine", {task: [1, 0, 1, 1] for task in (*DOLLY, "gsm8k")})
    other = model_scores("other", {task: [0, 0, 1, 1] for task in (*DOLLY, "gsm8k")})
    content = as_json(results_of(own, other))
    content["models"][0]["fingerprint"] = digest
    (run / "benchmark").mkdir()
    (run / "benchmark/benchmark.json").write_text(json.dumps(content))
    prompts = [(f"What is {n}?", {"k50": [f"It is {n}.<|endoftext|>", "no no no no " * 4]}) for n in range(3)]
    report = write_report(run / "report.json", "mine", prompts, ["<|endoftext|>"])
    values = json.loads(report.read_text())
    values["args"]["fingerprint"] = digest
    report.write_text(json.dumps(values))
    (run / "scores.json").write_text(json.dumps(scores_of(report)))


def scores_of(report: Path) -> dict[str, object]:
    """What `tunesmith score` writes of a report, as far as a card reads it."""
    found = read_report(report)
    assert found is not None
    names = {"model_name": "mine", "reward_model": "judge", "report": report.name}
    return {**names, "results": {"k50": 1.25}, "report_key": report_key(found)}
