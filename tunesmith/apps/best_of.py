"""`tunesmith sample --best-of`: replies are sampled and scored, and files are made of the best of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

from tunesmith.apps import sample
from tunesmith.apps.compare import open_report
from tunesmith.apps.rejection_files import REJECTION_KINDS, ScoredReports, check_keep, write_rejections
from tunesmith.apps.sample import SampleSettings
from tunesmith.apps.sampling_reports import SamplingReport
from tunesmith.apps.score import score_reports
from tunesmith.apps.shared_command import shared_command
from tunesmith.errors import UsageError
from tunesmith.evaluate.reward_scorer import open_reward_scorer
from tunesmith.files import write_file
from tunesmith.generate.export_directory import find_export, read_export
from tunesmith.model.load import is_classifier
from tunesmith.text.visible import visible


@dataclass(frozen=True, slots=True)
class BestOfSettings:
    """How the best replies are found and what becomes of them.

    scorer: the directory of a reward model, or its run.
    kind: of the file, a key of REJECTION_KINDS.
    keep: how many replies to a prompt it has; None for the default of its kind.
    """

    scorer: str
    kind: str = "report"
    keep: int | None = None


def run(
    models: Sequence[str],
    settings: SampleSettings,
    directory: Path,
    best: BestOfSettings,
    *,
    target: TextIO | None = None,
    errors: TextIO | None = None,
    **more: Any,
) -> list[Path]:
    """Sample as ``sample.run`` does, score every report, and write its scores and the file of the best replies.

    A stopped command samples only what is missing when it is given again. The replies of a report compete with each
    other and not with those of other models. Replies that the reward model cannot read are left out and counted.

    Args:
        models, settings, directory, target, errors, more: see ``sample.run``.
        best: how the best replies are found.

    Returns what this process has written of the best replies. Raises as ``sample.run`` and ``open_reward_scorer`` do.
    """
    check_keep(best.kind, best.keep)
    check_scorer(best.scorer)
    sample.check_engine(settings.engine)
    with shared_command(target, errors) as command:
        paths = sample.sample_models(models, settings, directory, command, **more)
        reports = [open_report(path) for path in paths]
        with command.preparation():
            scorer = open_reward_scorer(best.scorer)
        print(file=command.screen)
        found = score_reports(scorer, reports, True, replace(command, log=command.screen))
        if command.world.is_first:
            return [_choose(*each, best, command.screen) for each in zip(paths, reports, found, strict=True)]
    return []


def check_scorer(path: str) -> None:
    """Raises an error if a directory holds no reward model, or none that declares its format, without loading it."""
    directory = find_export(path)
    if not is_classifier(str(directory)):
        advice = "train one: tunesmith init PAIRS --model MODEL --objective reward"
        raise UsageError("this is not a reward model, so it cannot score replies", where=path, advice=advice)
    if read_export(directory) is None:
        advice = "sample without --best-of, and then: tunesmith score MODEL REPORT --format NAME --write report -o FILE"
        raise UsageError("the reward model does not declare its prompt format", where=path, advice=advice)


def _choose(path: Path, report: SamplingReport, found: dict[str, Any], best: BestOfSettings, screen: TextIO) -> Path:
    """Write the scores of a report and what is made of it. found: from ``score_reports``."""
    base = path.with_suffix("")
    write_file(base.with_name(f"{base.name}_scores.json"), json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    output = base.with_name(base.name + REJECTION_KINDS[best.kind].tail)
    scored = ScoredReports.of([report], [found["scores"]], found["reward_model"])
    for line in write_rejections(best.kind, scored, output, best.keep):
        print(visible(line), file=screen)
    return output
