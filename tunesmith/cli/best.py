"""`tunesmith best`: shows every evaluation of a run with its ranks, and the best checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tunesmith.cli.lazy import load_part


def best(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The directory of a run, which may be unfinished.")],
) -> None:
    """Show every evaluation of a run with its metrics and ranks, and which checkpoint `train.best` selects.

    For example: tunesmith best runs/flan-t5-dolly-xxl
    """
    selection = load_part("tunesmith.compose.best:best_of_run")(run)
    metrics = selection.rule.metrics
    names = [f"{metric.name} ({metric.mode}, weight {metric.weight:g})" for metric in metrics]
    rows = [["step", *names, "mean rank", ""]]
    for ranked in selection.ranking():
        cells = [f"{value:.6g} (rank {rank:g})" for value, rank in zip(ranked.values, ranked.ranks, strict=True)]
        mark = "best" if ranked.step == selection.best else "kept" if ranked.kept else ""
        rows.append([str(ranked.step), *cells, f"{ranked.mean_rank:.4g}", mark])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    found = f"step {selection.best}" if selection.best else "none, because no checkpoint has been evaluated yet"
    print(f"\nbest checkpoint: {found}")
