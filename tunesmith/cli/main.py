"""The command `tunesmith`: finds the command's part, runs it, and turns the user's errors into lines and exit codes."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from tunesmith import __version__
from tunesmith.cli.lazy import COMMANDS, load_part
from tunesmith.errors import StoppedError, TunesmithError, UsageError
from tunesmith.text.visible import visible

NAME = "tunesmith"
TYPER_USAGE = 2  # what typer ends with when it cannot understand a command line
INTERRUPTED = 130

ABOUT = "Turns a base language model into an assistant, and shows that it got better."
EXIT_CODES = (
    "Exit codes: 0 done, 64 usage, 65 bad data, 66 no input, 70 internal, 74 storage, 75 stopped and saved, "
    "76 locked by another run, 78 recipe."
)


def main() -> None:
    """Run one command and exit. Only a defect of Tunesmith itself ends in a traceback."""
    try:
        build()(prog_name=NAME)
    except StoppedError as stopped:  # asked for by the user, so it is not printed as an error
        print(f"{NAME}: {visible(str(stopped))}", file=sys.stderr)
        sys.exit(stopped.exit_code)
    except TunesmithError as error:
        for line in str(error).split("\n"):
            print(f"{NAME}: error: {visible(line)}", file=sys.stderr)
        sys.exit(error.exit_code)
    except SystemExit as stop:
        sys.exit(UsageError.exit_code if stop.code == TYPER_USAGE else stop.code)


def build() -> Any:
    """The command line; a command is imported when it is called, and not before."""
    app = typer.Typer(
        name=NAME,
        help=ABOUT,
        epilog=EXIT_CODES,
        rich_markup_mode=None,  # rich is not loaded for a page of help
        add_completion=False,
        pretty_exceptions_enable=False,
        no_args_is_help=True,
    )
    app.callback()(_options)
    for name, command in COMMANDS.items():
        # All words after the command go to its part, which alone knows its options, `--help` among them.
        settings = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": list[str]()}
        app.command(name, help=command.summary, context_settings=settings)(_forward)
    return app


def _forward(context: typer.Context) -> None:
    name = str(context.info_name)
    single = typer.Typer(rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False)
    single.command(name)(load_part(COMMANDS[name].part))
    single(args=context.args, prog_name=f"{NAME} {name}")


def _version(wanted: bool) -> None:
    if wanted:
        print(f"{NAME} {__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options that stand before any command; `--version` has done its work when this is called."""


if __name__ == "__main__":
    main()
