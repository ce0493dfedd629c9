"""The class of the commands that take a recipe: for an unknown option it suggests the key of a recipe."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from typer.core import TyperCommand

from tunesmith.recipe.keys import find_meant_key
from tunesmith.recipe.layers import catalog_files
from tunesmith.recipe.other_names import explain_name


class RecipeCommand(TyperCommand):
    """A command whose arguments are a recipe, layers and single values such as train.epochs=3."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command line; an option such as `--epochs 3` is an error with the advice `train.epochs=3`.

        ctx: the context, whose class is private in some versions of typer.
        """
        known = {*self.get_help_option_names(ctx)}
        for parameter in self.params:
            known.update(parameter.opts, parameter.secondary_opts)
        if unknown := find_unknown_option(args, known):
            option, value = unknown
            similar = difflib.get_close_matches(option, known, n=1, cutoff=0.75)
            advice = f"Did you mean {similar[0]}?" if similar else suggest_setting(option, value)
            ctx.fail(f"No such option: {option}. {advice}")
        return super().parse_args(ctx, args)


def find_unknown_option(args: Sequence[str], known: set[str]) -> tuple[str, str] | None:
    """The first long option that is not known, with its value, which is empty if it seems to have none."""
    for index, word in enumerate(args):
        if word == "--":
            return None
        option, equals, value = word.partition("=")
        if option.startswith("--") and option not in known:
            following = args[index + 1] if index + 1 < len(args) else ""
            is_value = not following.startswith("-") and "=" not in following and following not in catalog_files()
            return option, value if equals else following if is_value else ""
    return None


def suggest_setting(option: str, value: str) -> str:
    """How the value of an option is given instead: ``--epochs``, ``3`` -> ``train.epochs=3``."""
    name = option.lstrip("-").replace("-", "_")
    if (explanation := explain_name(name)) is not None:
        return f"{explanation[0].upper()}{explanation[1:]}."
    key = find_meant_key([name])
    if key is None:
        return "Values of a recipe are written as KEY=VALUE, such as train.epochs=3."
    return f"Values of a recipe are written as KEY=VALUE; did you mean {key}={value or 'VALUE'}?"
