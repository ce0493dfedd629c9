"""Every causal family of transformers: what is trained and generated here equals what stock transformers computes.

    python -m tests.campaigns.families [--json FILE] [--markdown FILE] [ARCHITECTURE ...]

For each family a tiny random model is saved. A process that imports only torch and transformers reads it with the
model's own eager attention, and writes loss, gradients and the weights after one step of AdamW. Here the same
directory goes through loading, self-test, training step, decoding and export, and all numbers are compared; then
the stock process reads the export. With TUNESMITH_OLD_TRANSFORMERS, the name of a Python that has transformers 4.57, it
reads the export too. The rows of the result are those of docs/families.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor

from tests.campaigns.family_models import VOCABULARY, families, tiny_model
from tests.campaigns.stock_process import EPSILON, LEARNING_RATE, WEIGHT_DECAY
from tests.generate.scheduling import generate
from tests.model.trees import random_tree
from tunesmith.batch.example import Example
from tunesmith.batch.packed import assemble_packed
from tunesmith.batch.threads import split_into_threads
from tunesmith.errors import TunesmithError
from tunesmith.generate.cache_check import choose_decoding
from tunesmith.generate.requests import StoppingCriteria
from tunesmith.generate.sampling import SamplingParameters
from tunesmith.model.export import save_model
from tunesmith.model.load import load_model
from tunesmith.model.policy import Policy
from tunesmith.objectives.sft import SupervisedFineTuning
from tunesmith.text.tokens.token_tree import TokenTree
from tunesmith.train.optim.optimizers import AdamW
from tunesmith.verify.self_test import SelfTestResult, self_test

LONGEST = 40  # tokens of the self-test; the trees of the campaign have threads of 20 to 40
PROMPT = (5, 9, 33, 2, 60, 12, 7, 7, 41, 18, 3, 25, 80, 11, 6, 29, 14, 55, 21, 4)
NEW = 8
LOSS, GRADIENT, WEIGHT, LOGITS = 1e-5, 1e-4, 5e-3, 1e-4
"""Largest differences: of the loss, of a gradient relative to its norm (or to the largest), of a weight relative to the
learning rate, of logits relative to the largest."""


@dataclass(frozen=True, slots=True)
class FamilyResult:
    """A row of the table.

    layout: tree, threads, threads with its stock attention, or "refused".
    reason: why it is refused, or what differs; empty where everything is equal.
    replies: cached, recomputed or refused.
    export, old: what stock transformers of this environment and 4.57 say of the export: equal, or what differs.
    loss, gradient, weight, logits: the largest differences.
    """

    family: str
    layout: str = ""
    reason: str = ""
    replies: str = ""
    export: str = ""
    old: str = ""
    loss: float = 0.0
    gradient: float = 0.0
    weight: float = 0.0
    logits: float = 0.0

    @property
    def equal(self) -> bool:
        """Whether the family is trained and everything that was compared is equal."""
        return not self.reason


def examples() -> list[Example]:
    """Two trees with branches, and two threads."""
    return [Example(number, _below(random_tree(number, 5, 14))) for number in range(2)] + [
        Example(number, _below(random_tree(number, 2, 24))) for number in range(2, 4)
    ]


def _below(tree: TokenTree) -> TokenTree:
    return replace(tree, ids=tree.ids % (VOCABULARY - 4) + 4)


def job() -> dict[str, Any]:
    """What the stock process computes: every thread with its targets, and a text to read on."""
    threads = []
    for example in examples():
        for thread in split_into_threads(example.tree):
            batch = assemble_packed([Example(0, thread.tree)], "threads")
            if not len(batch.target):
                continue
            threads.append(
                {"ids": batch.ids.tolist(), "sources": batch.source.tolist(), "targets": batch.target.tolist()}
            )
    return {"name": "stock", "threads": threads, "text": list(PROMPT), "new": NEW}


def run_stock(
    work: str, directories: Sequence[Path], python: str, name: str, content: Mapping[str, Any] | None = None
) -> None:
    """Run the stock process over directories; results get the name ``name``. content: of the job, if not ``job``."""
    for directory in directories:
        (directory / "job.json").write_text(json.dumps({**(content or job()), "name": name}))
    with tempfile.NamedTemporaryFile("w", suffix=".json") as jobs:
        json.dump([str(directory) for directory in directories], jobs)
        jobs.flush()
        script = Path(__file__).with_name("stock_process.py")
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        subprocess.run([python, str(script), work, jobs.name], check=True, env=environment)


def _relative(found: Tensor, expected: Tensor, scale: float) -> float:
    return float((found - expected).norm()) / max(float(expected.norm()), scale, 1e-12)


def train_here(directory: Path) -> tuple[Policy, SelfTestResult, float]:
    """Policy, result of the self-test and loss of a model after its backward pass."""
    policy = Policy(load_model(str(directory)))
    verdict = self_test(policy, VOCABULARY, LONGEST)
    policy = policy.with_layout(verdict.layout)
    policy.train()
    batch = assemble_packed(examples(), "threads")
    objective = SupervisedFineTuning()
    part = objective(policy, batch, objective.units(batch))
    part.loss.backward()
    return policy, verdict, float(part.loss)


def compare_training(directory: Path, row: FamilyResult) -> tuple[Policy | None, FamilyResult]:
    """The trained policy and what differs from the stock process; no policy for a family that is refused."""
    stock = json.loads((directory / "stock.json").read_text())
    try:
        policy, verdict, loss = train_here(directory)
    except TunesmithError as error:
        return None, replace(row, layout="refused", reason=error.what)
    row = replace(row, layout=verdict.description)
    if "error" in stock:
        return policy, replace(row, reason=f"stock transformers fails: {stock['error']}")
    expected = load_file(directory / "stock.safetensors")
    gradients = {name: p.grad.clone() for name, p in policy.model.named_parameters() if p.grad is not None}
    names = {name.removeprefix("gradient.") for name in expected if name.startswith("gradient.")}
    if gradients.keys() != names:
        return policy, replace(row, reason=f"other parameters have gradients: {sorted(gradients.keys() ^ names)[:3]}")
    scale = max(float(expected[f"gradient.{name}"].norm()) for name in names) * 1e-4
    differences = {name: _relative(gradients[name], expected[f"gradient.{name}"], scale) for name in names}
    worst = max(differences, key=lambda name: differences[name])
    AdamW(policy.parameters(), epsilon=EPSILON, weight_decay=WEIGHT_DECAY).step(LEARNING_RATE)
    weights = dict(policy.model.named_parameters())
    moved = max(float((weights[name] - expected[f"weight.{name}"]).abs().max()) for name in weights) / LEARNING_RATE
    row = replace(row, loss=abs(loss - stock["loss"]), gradient=differences[worst], weight=moved)
    if not row.loss <= LOSS:
        return policy, replace(row, reason=f"loss {loss:.6f}, stock {stock['loss']:.6f}")
    if not row.gradient <= GRADIENT:
        return policy, replace(row, reason=f"gradient of {worst} differs by {row.gradient:.1g}")
    return policy, row if row.weight <= WEIGHT else replace(row, reason=f"weights differ by {moved:.1g} learning rates")


@torch.no_grad()
def greedy_reply(policy: Policy) -> tuple[str, list[int]]:
    """How replies are generated, and the greedy continuation of the prompt."""
    decoding = choose_decoding(policy.model)
    policy.eval()
    sampling = SamplingParameters(do_sample=False, max_new_tokens=NEW)
    stopping = StoppingCriteria((), VOCABULARY, 10_000)
    found = generate(decoding.new_rows(2), [PROMPT, PROMPT[:7]], sampling, stopping, seed=0)[0]
    return "recomputed" if decoding.notice else "cached", found


def compare_replies(policy: Policy, row: FamilyResult) -> tuple[list[int], FamilyResult]:
    """The greedy reply of the trained model, and how it is generated."""
    try:
        kind, reply = greedy_reply(policy)
    except TunesmithError as error:
        return [], replace(row, replies=f"refused ({error.what})")
    return reply, replace(row, replies=kind)


def compare_export(directory: Path, name: str, reply: list[int], logits: Tensor) -> tuple[str, float]:
    """What a stock process says of an export, and the difference of its logits."""
    found = json.loads((directory / f"{name}.json").read_text())
    if "error" in found:
        return found["error"], 0.0
    stock = load_file(directory / f"{name}.safetensors")["logits"]
    difference = float((stock - logits).abs().max() / logits.abs().max())
    if not difference <= LOGITS:
        return f"logits differ by {difference:.1g}", difference
    return ("equal" if not reply or found["reply"] == reply else "another reply"), difference


def run(names: Sequence[str], root: Path, old: str | None) -> Iterator[FamilyResult]:
    """The rows of all families, in their order."""
    rows, built = {}, []
    for name in names:
        directory = root / name
        try:
            tiny_model(name).save_pretrained(directory)
            built.append(name)
        except Exception as error:  # whatever the code of a family raises when it is built with these sizes
            rows[name] = FamilyResult(
                name, "not tested", f"{type(error).__name__}: {' '.join(str(error).split())[:150]}"
            )
    run_stock("train", [root / name for name in built], sys.executable, "stock")
    exported: dict[str, tuple[list[int], Tensor]] = {}
    for name in built:
        policy, row = compare_training(root / name, FamilyResult(name))
        if policy is not None:
            reply, row = compare_replies(policy, row)
            policy.eval()
            with torch.no_grad():
                logits = policy.model(input_ids=torch.tensor([PROMPT]), use_cache=False).logits[0]
            (root / name / "export").mkdir()
            save_model(policy.model, root / name / "export")
            exported[name] = (reply, logits)
        rows[name] = row
    versions = {"export": sys.executable, **({"old": old} if old else {})}
    for key, python in versions.items():
        run_stock("read", [root / name / "export" for name in exported], python, key)
        for name, (reply, logits) in exported.items():
            said, difference = compare_export(root / name / "export", key, reply, logits)
            change: dict[str, Any] = {key: said, **({"logits": difference} if key == "export" else {})}
            rows[name] = replace(rows[name], **change)
    for name in names:
        yield rows[name]


def markdown(rows: Sequence[FamilyResult]) -> str:
    """The tables of docs/families.md: families that are trained, and those that are refused, with the reason."""
    lines = ["| family | training | replies | export | transformers 4.57 |", "|---|---|---|---|---|"]
    for row in sorted(rows, key=lambda each: each.family):
        if row.layout not in ("refused", "not tested"):
            training = "threads (stock attention)" if "stock" in row.layout else row.layout
            lines.append(f"| {row.family} | {training} | {row.replies} | {row.export} | {old_verdict(row.old)} |")
    lines += ["", "| family | why it is refused |", "|---|---|"]
    for row in sorted(rows, key=lambda each: each.family):
        if row.layout == "refused":
            lines.append(f"| {row.family} | {row.reason.split(' ', 1)[1]} |")
    return "\n".join(lines) + "\n"


def old_verdict(said: str) -> str:
    """What transformers 4.57 says of an export, in a word or two."""
    if "does not recognize this architecture" in said:
        return "unknown there"
    return said if said == "equal" else "differs" if said.startswith("logits differ") else "fails"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path, help="where the tables of docs/families.md are written")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    old = os.environ.get("TUNESMITH_OLD_TRANSFORMERS")
    found = []
    with tempfile.TemporaryDirectory() as root:
        for row in run(arguments.names or families(), Path(root), old):
            found.append(row)
            print(
                f"{row.family:22} {row.layout:8.40} {row.replies:11.40} export {row.export:8} {row.old:8} {row.reason}"
            )
    trained = [row for row in found if row.layout not in ("refused", "not tested")]
    unequal = [row.family for row in trained if not row.equal]
    print(f"{len(found)} families, {len(trained)} trained, {len(unequal)} of them differ: {', '.join(unequal)}")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps([asdict(row) for row in found], indent=1))
    if arguments.markdown is not None:
        arguments.markdown.write_text(markdown(found))
    return 1 if unequal else 0


if __name__ == "__main__":
    sys.exit(main())
