"""`tunesmith best`: every evaluation of a run with its ranks, and the checkpoint that the recipe's rule chooses."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tunesmith.cli.lazy import load_part


def best(run: Annotated[Path, typer.Argument(help="the directory of a run, finished or not")]) -> None:
    """Print what the rule of `train.best` makes of the evaluations that a run has recorded."""
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
    found = f"step {selection.best}" if selection.best else "none yet: no checkpoint was evaluated"
    print(f"\nbest checkpoint: {found}")
