"""docs/reference.md is what the generator writes, and it has every key."""

from __future__ import annotations

import re

from tests.conftest import REPOSITORY
from tunesmith.recipe.keys import all_keys
from tunesmith.recipe.reference import reference_page


def keys_on(page: str) -> set[str]:
    """The keys that a page lists, each with its section."""
    found, section = set(), ""
    for line in page.splitlines():
        if line.startswith("## "):
            names = re.findall(r"`([^`]+)`", line)
            section = f"{names[0]}." if names else ""
        elif match := re.match(r"\| `([^`]+)` \|", line):
            found.add(section.replace(".NAME", "") + match[1])
    return found


def test_the_page_is_that_of_the_schema() -> None:
    assert (REPOSITORY / "docs" / "reference.md").read_text(encoding="utf-8") == reference_page(), (
        "run `make reference`"
    )


def test_every_key_is_on_the_page() -> None:
    keys = {".".join(key.path) for key in all_keys()}
    assert keys_on(reference_page()) == keys | {"extends", "layer"}


def test_values_defaults_and_bounds_are_written() -> None:
    lines = reference_page().splitlines()
    resize = next(line for line in lines if line.startswith("| `resize` |"))
    assert resize.startswith("| `resize` | `none`, `grow`, `exact` or whole number above 0 | `none` | The rows")
    seed = next(line for line in lines if line.startswith("| `seed` |"))
    assert seed.startswith("| `seed` | whole number from 0 | `0` | The seed from which")
    betas = next(line for line in lines if line.startswith("| `betas` |"))
    assert betas.startswith("| `betas` | 2 numbers | `[0.9, 0.999]` |")
    path = next(line for line in lines if line.startswith("| `path` | text | required |"))
    assert "the name of a data set" in path
