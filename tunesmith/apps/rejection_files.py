"""The files of rejection sampling: a report, a selection, trees or preferences, from scored sampling reports."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tunesmith.apps.preferences import PairCounts
from tunesmith.apps.rejection_sampling import (
    CHOSEN,
    CUT,
    SELECTED,
    TREE_REPLIES,
    ScoredPrompt,
    chosen_report,
    preference_lines,
    ranked_prompts,
    rejection_tree,
    selection,
)
from tunesmith.apps.sampling_reports import SamplingReport
from tunesmith.apps.score_report import ScoreTable
from tunesmith.data.dataset.report import reasons
from tunesmith.errors import MissingInputError, UsageError
from tunesmith.files import write_file

READING_TREES = ("reader: oasst", "options: {states: [ranking], reviewed: false, synthetic: true, keep: rankings}")
"""Lines of a recipe that read the trees."""


@dataclass(frozen=True, slots=True)
class ScoredReports:
    """What the files are made of.

    reports: at least one.
    prompts: with their replies, the best first.
    reward_model: that gave the scores.
    """

    reports: tuple[SamplingReport, ...]
    prompts: tuple[ScoredPrompt, ...]
    reward_model: str

    @classmethod
    def of(cls, reports: Sequence[SamplingReport], tables: Sequence[ScoreTable], reward_model: str) -> ScoredReports:
        """From the scores of every report."""
        return cls(tuple(reports), tuple(ranked_prompts(reports, tables)), reward_model)

    def left_out(self) -> Counter[str]:
        """How many replies are not used for training, by reason."""
        return sum((prompt.left_out() for prompt in self.prompts), Counter[str]())


@dataclass(frozen=True, slots=True)
class RejectionKind:
    """One kind of file.

    tail: of its name, after the name of a report without its suffix.
    keep: how many replies to a prompt it has, unless the user says it; None where that cannot be said.
    write: writes the file, with this number of replies, and returns the lines to print.
    """

    tail: str
    keep: int | None
    write: Callable[[ScoredReports, Path, int], list[str]]


def write_rejections(kind: str, scored: ScoredReports, output: Path, keep: int | None = None) -> list[str]:
    """Write the file of a kind and return the lines to print, which are not escaped yet.

    kind: a key of REJECTION_KINDS.
    keep: how many replies to a prompt; None for the default of the kind.
    Raises UsageError where the kind has no such number, MissingInputError if there is nothing to write, StorageError.
    """
    check_keep(kind, keep)
    found = REJECTION_KINDS[kind]
    return found.write(scored, output, keep or found.keep or 0)


def check_keep(kind: str, keep: int | None) -> None:
    """Raises UsageError for a number of replies that the kind does not have."""
    if keep is not None and REJECTION_KINDS[kind].keep is None:
        raise UsageError(f"--keep has no effect on {kind}", advice="leave it out")


def output_files(kind: str, output: Path) -> list[Path]:
    """The files that are written."""
    return [output / f"{name}.json" for name in SELECTION_FILES] if kind == "selection" else [output]


def _write_report(scored: ScoredReports, output: Path, keep: int) -> list[str]:
    report = chosen_report(scored.prompts, scored.reports, scored.reward_model, keep)
    written = len(report["prompts"])
    if not written:
        raise _nothing(scored, "no reply can be used")
    write_file(output, json.dumps(report, indent=2))
    best = "the best reply" if keep == 1 else f"the {keep} best replies"
    return [f"wrote {output}: {best} to each of {_count(written, 'prompt')}", *_left_out(scored)]


def _write_selection(scored: ScoredReports, output: Path, keep: int) -> list[str]:
    found = selection(scored.prompts, keep)
    for name in SELECTION_FILES:
        write_file(output / f"{name}.json", json.dumps(found[name], indent=4))
    described = found["comparison"]
    lines = [f"wrote {', '.join(f'{name}.json' for name in SELECTION_FILES)} in {output}"]
    for name in SELECTION_FILES[:2]:
        count = sum(len(item["outputs"]) for item in found[name])
        mean = f", mean score {float(described[name]['mean']):.4f}" if described[name] else ""
        lines.append(f"  {name:16} {count:,} replies{mean}")
    return lines


def _write_trees(scored: ScoredReports, output: Path, keep: int) -> list[str]:
    missing: Counter[str] = Counter()
    lines: list[str] = []
    for prompt in scored.prompts:
        tree = rejection_tree(prompt, keep)
        if isinstance(tree, str):
            missing[tree] += 1
        else:
            lines.append(json.dumps(tree, ensure_ascii=False) + "\n")
    if not lines:
        raise _nothing(scored, f"there are no trees of {len(scored.prompts):,} prompts ({reasons(missing)})")
    write_file(output, "".join(lines))
    wrote = f"wrote {_count(len(lines), 'tree')} to {output}"
    reading = (f"  {line}" for line in READING_TREES)
    return [wrote, *_without(missing, "tree"), *_left_out(scored), "in a recipe, below its path:", *reading]


def _write_preferences(scored: ScoredReports, output: Path, _: int) -> list[str]:
    counts = PairCounts()
    lines = list(preference_lines(scored.prompts, output.stem, counts))
    if not lines:
        raise _nothing(scored, f"there are no pairs of {len(scored.prompts):,} prompts ({reasons(counts.rejected)})")
    write_file(output, b"".join(lines))
    return [
        f"wrote {_count(len(lines), 'pair')} to {output}",
        *_without(counts.rejected, "pair"),
        *_left_out(scored),
        f"next: tunesmith init {output} --model MODEL",
    ]


def _nothing(scored: ScoredReports, what: str) -> MissingInputError:
    left_out = scored.left_out()
    most, _ = left_out.most_common(1)[0] if left_out else ("", 0)
    return MissingInputError(
        f"{what}; replies that are left out: {reasons(left_out)}" if left_out else what,
        advice=REMEDIES.get(most, "sample more replies to each prompt"),
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _without(missing: Counter[str], noun: str) -> Iterator[str]:
    """A line for the prompts that give nothing, if there are any."""
    if missing:
        yield f"  prompts without a {noun}: {missing.total():,} ({reasons(missing)})"


def _left_out(scored: ScoredReports) -> Iterator[str]:
    """A line for the replies that are not used, if there are any."""
    found = scored.left_out()
    if found:
        yield f"  replies left out: {found.total():,} ({reasons(found)})"


REMEDIES: Mapping[str, str] = {CUT: "sample with a larger --max-new-tokens"}
"""What to do where most replies are left out for this reason; otherwise more of them are sampled."""
SELECTION_FILES = ("selected_samples", "rejected_samples", "comparison")
REJECTION_KINDS: Mapping[str, RejectionKind] = {
    "report": RejectionKind("_best.json", CHOSEN, _write_report),
    "selection": RejectionKind("_selection", SELECTED, _write_selection),
    "trees": RejectionKind("_trees.jsonl", TREE_REPLIES, _write_trees),
    "preferences": RejectionKind("_pairs.jsonl", None, _write_preferences),
}
"""Word after --write -> the kind of file."""
