"""Hostile models by the thousand, each used by a real command: nothing outside is opened, and each ends in a line.

    python -m tests.campaigns.hostile [--count 1500] [--seed 0] [--only NUMBER] [--results FILE] [--json FILE]

An artefact is a tiny sound model, export, adapter or run with one hostile change, which follows from the seed and its
number. A forked child uses it as a user would. Faults are: a file outside opened, code, a connection or a process, a
traceback, more than 30 seconds of CPU time or of waiting, more than 1 GB of memory, a control character in the output,
an exit code that is not documented, an error without a message. An artefact that does no harm may be accepted.

A finished trial is a line of the results, and is not done again. ``--only`` prints all about one.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from tests.campaigns.hostile_process import Ending, run_forked
from tests.campaigns.hostile_templates import template
from tests.campaigns.hostile_texts import tokenizer, tokenizer_config
from tests.campaigns.hostile_values import (
    Artefact,
    adapter_value,
    config_kind,
    config_value,
    deep_entry,
    export_sampling,
    json_text,
    known_directory,
    not_a_file,
    object_value,
    weights_header,
    weights_index,
)
from tests.campaigns.hostile_world import FORMATS, SoundModels, Trial
from tunesmith.cli.lazy import COMMANDS, load_part

SAY = "Say red.\n"
FAMILIES = tuple(FORMATS)
NAMES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "generation_config.json")
LOADING = ("chat", "chat", "chat", "chat", "check", "train", "plan")
TEMPLATE_USES = ("chat with its template", "chat with its template", "check with its template")
RUN_FILES = ("manifest.json", "recipe.yaml", "status.json", "timing.jsonl", "export/tunesmith.json")
HEAVY = ("tunesmith.compose.check.command", "tunesmith.compose.train", "tunesmith.compose.sizing.command")


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of artefacts.

    artefact: makes a sound model hostile.
    models: sound models, one of which is drawn.
    uses: commands, one of which is drawn.
    weight: how many of a thousand artefacts are of this kind, about.
    """

    artefact: Artefact
    models: tuple[str, ...]
    uses: tuple[str, ...]
    weight: int


KINDS: Mapping[str, Kind] = {
    "config value": Kind(config_value, FAMILIES, LOADING, 210),
    "config kind": Kind(config_kind, FAMILIES, ("chat", "plan", "check"), 40),
    "config text": Kind(json_text("config.json"), FAMILIES, ("chat", "plan"), 30),
    "config depth": Kind(deep_entry("config.json"), FAMILIES, ("chat", "plan", "train"), 30),
    "not a file": Kind(not_a_file(NAMES), FAMILIES, LOADING, 40),
    "known directory": Kind(known_directory, ("llama",), LOADING, 40),
    "weights header": Kind(weights_header, FAMILIES, ("chat", "chat", "train"), 60),
    "weights index": Kind(weights_index, FAMILIES, ("chat", "check"), 40),
    "reward config": Kind(config_value, ("reward",), ("score",), 30),
    "tokenizer": Kind(tokenizer, FAMILIES, ("chat", "chat", "check", "train"), 150),
    "tokenizer text": Kind(json_text("tokenizer.json"), FAMILIES, ("chat", "check"), 20),
    "tokenizer depth": Kind(deep_entry("tokenizer.json"), FAMILIES, ("chat", "check"), 20),
    "tokenizer config": Kind(tokenizer_config, FAMILIES, ("chat", "check", *TEMPLATE_USES), 50),
    "template": Kind(template, ("llama", "gpt_neox"), TEMPLATE_USES, 130),
    "generation config": Kind(object_value("generation_config.json"), FAMILIES, ("chat", "check"), 30),
    "export": Kind(object_value("tunesmith.json"), (*FAMILIES, "reward"), ("chat", "verify", "score", "check"), 30),
    "export sampling": Kind(export_sampling, FAMILIES, ("chat",), 20),
    "export manifest": Kind(object_value("tunesmith-manifest.json"), FAMILIES, ("chat", "verify"), 20),
    "export text": Kind(json_text("tunesmith.json"), FAMILIES, ("chat", "verify"), 10),
    "run manifest": Kind(object_value("manifest.json"), ("run",), ("verify", "export"), 15),
    "run text": Kind(json_text("manifest.json"), ("run",), ("verify", "export"), 10),
    "run file": Kind(not_a_file(RUN_FILES, linked=False), ("run",), ("verify", "export"), 15),
    "adapter": Kind(adapter_value, ("adapter",), ("chat", "chat", "train"), 30),
    "adapter text": Kind(json_text("adapter_config.json"), ("adapter",), ("chat",), 10),
}


@dataclass(frozen=True, slots=True)
class HostileOutcome:
    """What one trial has shown.

    number, kind, use: the artefact, and the command that used it.
    what: the change, in words.
    code, seconds, megabytes: how the command ended and what it cost.
    line: the last line of its output.
    faults: what must not happen; empty if the trial holds.
    """

    number: int
    kind: str
    use: str
    what: str
    code: int
    seconds: float
    megabytes: int
    line: str
    faults: tuple[str, ...]


class HostileCampaign:
    """Trials of a seed, in a directory with sound models. root: an empty directory."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root, self.seed = root, seed
        self.sound = SoundModels(root / "sound")
        self.usual: dict[str, set[str]] = {}

    def check_sound(self) -> Iterator[str]:
        """Every command on every sound model ends with 0 and has no fault; yields what is wrong."""
        for use, name in sorted({(use, name) for kind in KINDS.values() for use in kind.uses for name in kind.models}):
            if (name == "reward") != (use == "score") or (name == "t5" and "template" in use):
                continue  # a reward model does not chat, and a template is not for an encoder
            ending, _, faults = self.run(use, name, lambda trial: "", random.Random(0))
            self.usual.setdefault(use, set()).update(ending.events)
            if ending.code or set(faults) - {"code, socket or process"}:
                yield f"{use} of {name} ends with {ending.code} {faults}: {ending.output[-1500:]}"

    def trial(self, number: int) -> tuple[HostileOutcome, str]:
        """The outcome of one artefact, and all that was printed."""
        draw = random.Random(f"{self.seed}/{number}")
        name = draw.choices(list(KINDS), [kind.weight for kind in KINDS.values()])[0]
        kind = KINDS[name]
        use, model = draw.choice(kind.uses), draw.choice(kind.models)
        if "template" in use:
            model = draw.choice([family for family in kind.models if family != "t5"])
        ending, what, faults = self.run(use, model, kind.artefact, draw)
        lines = ending.output.strip().splitlines() or [""]
        cost = (round(ending.seconds, 2), ending.grown >> 20)
        return HostileOutcome(number, name, use, what, ending.code, *cost, lines[-1][:400], faults), ending.output

    def run(self, use: str, model: str, artefact: Artefact, draw: random.Random) -> tuple[Ending, str, tuple[str, ...]]:
        """(how the command ended, what was changed, faults)."""
        place = self.root / "trial"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        trial: Trial = self.sound.prepare(model, place, draw)
        what = artefact(trial)
        ending = run_forked(self.sound.command(use, trial), place, trial.outside, SAY)
        return ending, what, tuple(ending.faults(place, self.usual.get(use, ())))


def summarize(outcomes: Sequence[HostileOutcome]) -> dict[str, object]:
    """Kind -> "held/all", the faults of each kind, and the largest cost."""
    kinds = Counter(each.kind for each in outcomes)
    held = Counter(each.kind for each in outcomes if not each.faults)
    faults = Counter(f"{each.kind}: {fault}" for each in outcomes for fault in each.faults)
    return {
        "artefacts": len(outcomes),
        "held": sum(held.values()),
        "accepted": sum(each.code == 0 for each in outcomes),
        "kinds": {kind: f"{held[kind]}/{number}" for kind, number in sorted(kinds.items())},
        "faults": dict(faults.most_common()),
        "seconds at most": max((each.seconds for each in outcomes), default=0),
        "megabytes at most": max((each.megabytes for each in outcomes), default=0),
    }


def read_results(path: Path | None) -> dict[int, HostileOutcome]:
    """The trials that are done already."""
    if path is None or not path.is_file():
        return {}
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return {line["number"]: HostileOutcome(**{**line, "faults": tuple(line["faults"])}) for line in lines}


def set_environment(root: Path) -> None:
    """Keep everything below the directory, offline; import whatever a command imports."""
    places = {"XDG_STATE_HOME": "state", "XDG_CACHE_HOME": "cache", "HF_HOME": "hub", "HOME": "home", "TMPDIR": "tmp"}
    for variable, name in places.items():
        (root / name).mkdir(exist_ok=True)
        os.environ[variable] = str(root / name)
    tempfile.tempdir = str(root / "tmp")
    os.environ["HF_HUB_OFFLINE"] = "1"
    torch.set_num_threads(1)
    for part in (*(command.part for command in COMMANDS.values()), *HEAVY):
        load_part(part)


def campaign(numbers: Sequence[int], seed: int, results: Path | None, root: Path) -> list[HostileOutcome]:
    done, outcomes = read_results(results), list[HostileOutcome]()
    found = HostileCampaign(root / "campaign", seed)
    if wrong := [*found.check_sound()]:
        raise SystemExit("\n".join(wrong))
    for place, number in enumerate(numbers):
        outcome = done.get(number)
        if outcome is None:
            outcome, _ = found.trial(number)
            if results is not None:
                with results.open("a") as file:
                    file.write(json.dumps(asdict(outcome)) + "\n")
            if outcome.faults:
                print(f"{number} {outcome.use} {outcome.faults} {outcome.what!a}: {outcome.line!a}", flush=True)
        outcomes.append(outcome)
        if place % 50 == 49:
            held = sum(not each.faults for each in outcomes)
            print(f"{held} of {len(outcomes)} hold", file=sys.stderr, flush=True)
    return outcomes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1500)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, nargs="+", help="print everything about these")
    parser.add_argument("--results", type=Path, help="a line for every trial; those in it are not done again")
    parser.add_argument("--json", type=Path, help="the figures")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hostile-", ignore_cleanup_errors=True) as directory:
        root = Path(directory).resolve()
        set_environment(root)
        if options.only:
            found = HostileCampaign(root / "campaign", options.seed)
            for wrong in found.check_sound():  # also finds which processes a sound model starts
                print(wrong)
            for number in options.only:
                outcome, output = found.trial(number)
                print(ascii(output).replace("\\n", "\n"))
                print(json.dumps(asdict(outcome), indent=2))
            return
        outcomes = campaign(range(options.first, options.count, options.every), options.seed, options.results, root)
    text = json.dumps(summarize(outcomes), indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")
    held = sum(not each.faults for each in outcomes)
    print(f"{held:,}/{len(outcomes):,} were used or refused, with no fault")
    if held < len(outcomes):
        raise SystemExit("some trials do not hold")


if __name__ == "__main__":
    main()
