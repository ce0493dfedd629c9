"""`tunesmith check` as a command: progress, the printed table, check.json and check.html, the exit code."""

from __future__ import annotations

from pathlib import Path

import transformers
from rich.console import Console

from tunesmith.compose.check.recipe import collect_checks
from tunesmith.compose.progress import show_progress
from tunesmith.files import write_file, write_json
from tunesmith.recipe.load import LoadedRecipe
from tunesmith.report.check import plain_lines, show_checks
from tunesmith.report.check_page import check_page

FAILED = 70


def run_check(loaded: LoadedRecipe, output: Path | None, *, strict: bool, with_model: bool, command: str) -> int:
    """Check a recipe, print the result and write it to ``output``.

    output: directory; None: next to the run, with -check at its end.
    strict: warnings are failures.
    with_model: build or load the model and test it, too.
    command: the command line, for the report.

    Returns the exit code. Raises StorageError.
    """
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    with show_progress("checking") as progress:
        checked = collect_checks(loaded, progress, with_model=with_model, command=command)
    directory = output or loaded.recipe.directory.with_name(loaded.recipe.directory.name + "-check")
    write_json(directory / "check.json", checked.report.as_json())
    write_file(directory / "check.html", check_page(checked.report, checked.examples))
    console = Console(highlight=False)
    if console.is_terminal:
        show_checks(console, checked.report)
    else:
        print("\n".join(plain_lines(checked.report)))
    print(f"token by token: {directory / 'check.html'}")
    return checked.exit_code or (FAILED if strict and checked.report.having("warn") else 0)
