"""Which readers fit which objective: demonstrations are imitated, rankings compared, prompts answered."""

from __future__ import annotations

from collections.abc import Mapping

from tunesmith.data.readers.registry import READERS, Purpose, purpose
from tunesmith.errors import RecipeError
from tunesmith.recipe.schema import Recipe

WANTED: Mapping[str, tuple[Purpose, str]] = {
    "sft": ("demonstrations", "imitates replies"),
    "dpo": ("rankings", "compares replies to one prompt"),
    "reward": ("rankings", "compares replies to one prompt"),
}
"""Objective -> what its readers must give, and why; PPO takes the prompts of anything."""
SWITCHES: Mapping[str, Mapping[Purpose, str]] = {
    "replies": {"demonstrations": "best", "rankings": "all"},
    "keep": {"demonstrations": "threads", "rankings": "rankings"},
}
"""Option of a reader -> its value for what is wanted."""


def check_sources(recipe: Recipe) -> None:
    """Of ranked replies only the best are to be imitated, and one reply alone is not compared. Raises RecipeError."""
    kind = recipe.objective.kind
    if kind not in WANTED:
        return
    wanted, why = WANTED[kind]
    for key, sources in (("sources", recipe.data.sources), ("validation_sources", recipe.data.validation_sources)):
        for index, source in enumerate(sources):
            found = purpose(source.reader, source.options)
            if found == wanted:
                continue
            what = f"objective {kind} {why}, and reader {source.reader} gives {found}"
            if found == "rankings":
                what = f"objective {kind} would imitate rejected replies too"
            option = next((name for name in SWITCHES if name in READERS[source.reader].options), None)
            if option is None:
                known = ", ".join(name for name in READERS if purpose(name, {}) == wanted)
                advice, place = f"name one that gives {wanted}: {known}", "reader"
            else:
                advice, place = f"set it to {SWITCHES[option][wanted]}", f"options.{option}"
            raise RecipeError(what, where=f"data.{key}.{index}.{place}", advice=advice)
