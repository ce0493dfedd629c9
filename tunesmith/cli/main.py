"""The command `tunesmith`: imports and runs one command, and turns errors into messages and exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from tunesmith import __version__
from tunesmith.cli.lazy import COMMANDS, load_part
from tunesmith.errors import StoppedError, TunesmithError, UsageError
from tunesmith.files import find_storage_error
from tunesmith.launch import check_alone, launched_process
from tunesmith.text.visible import visible

NAME = "tunesmith"
TYPER_USAGE_ERROR = 2  # the exit code of typer for a command line that it cannot parse
RECIPE_COMMAND = "tunesmith.cli.recipe_command:RecipeCommand"

ABOUT = "Turn a base language model into an assistant, and show that it got better."
EXIT_CODES = (
    "Exit codes: 0 success, 64 wrong usage, 65 invalid data, 66 missing input, 70 internal error, 74 storage error, "
    "75 stopped by a signal with progress saved, 76 locked by another run, 78 invalid recipe, 130 interrupted at once."
)


def main() -> None:
    """Run one command and exit. Only a defect of Tunesmith itself ends in a traceback."""
    _open_closed_streams()
    try:
        build_app()(prog_name=NAME)
    except StoppedError as stopped:  # asked for by the user, so it is not printed as an error
        _print_line(f"{NAME}: {visible(str(stopped))}")
        sys.exit(stopped.exit_code)
    except TunesmithError as error:
        for line in str(error).split("\n"):
            _print_line(f"{NAME}: error: {visible(line)}")
        sys.exit(error.exit_code)
    except OSError as error:
        found = find_storage_error(error)
        if found is None:
            raise
        what = str(found) if found.where else f"the output cannot be written: {error.strerror}"
        _print_line(f"{NAME}: error: {visible(what)}")
        sys.exit(found.exit_code)
    except SystemExit as stop:
        sys.exit(UsageError.exit_code if stop.code == TYPER_USAGE_ERROR else stop.code)


def _open_closed_streams() -> None:
    """A standard stream that the caller closed is an empty one."""
    sys.stdin = sys.stdin or Path(os.devnull).open(encoding="utf-8")  # noqa: SIM115
    sys.stdout = sys.stdout or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115


def _print_line(line: str) -> None:
    """Print to standard error, which may be a terminal that was closed; the exit code says the rest."""
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def build_app() -> Any:
    """The typer application; the module of a command is imported only when the command is run."""
    app = typer.Typer(
        name=NAME,
        help=ABOUT,
        epilog=EXIT_CODES,
        rich_markup_mode=None,  # so that help pages do not import rich
        add_completion=False,
        pretty_exceptions_enable=False,
        no_args_is_help=True,
    )
    app.callback()(_options)
    for name, command in COMMANDS.items():
        app.command(name, cls=_PassedOn, help=command.summary)(_run_command)
    return app


class _PassedOn(TyperCommand):
    """A command whose words, `--help` and `--` included, are passed on, because only its module defines its options."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Leave all words as they are.

        ctx: the context, whose class is private in some versions of typer.
        """
        ctx.args = [*args]
        return args


def _run_command(context: typer.Context) -> None:
    check_platform(find_spec)
    name = str(context.info_name)
    command = COMMANDS[name]
    if not command.is_divided and "--help" not in context.args:
        check_alone(name, launched_process(os.environ))
    single = typer.Typer(rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False)
    kind = load_part(RECIPE_COMMAND) if command.takes_recipe else None
    single.command(name, cls=kind)(load_part(command.part))
    single(args=context.args, prog_name=f"{NAME} {name}")


def check_platform(find_module: Callable[[str], object | None]) -> None:
    """Raises UsageError where Python has no POSIX file locks, without which two runs could write to one directory.

    find_module: returns None for a module that does not exist.
    """
    if find_module("fcntl") is None:
        what = "Tunesmith runs on Linux and macOS, and on Windows inside of WSL"
        raise UsageError(what, advice="install WSL (`wsl --install`), and Tunesmith in it")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"{NAME} {__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """The options before a command; `--version` exits before this function is called."""


if __name__ == "__main__":
    main()
