"""Words of a recipe that its readers do not know are found before any data are opened."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunesmith.cli.recipes import show
from tunesmith.data.readers.recipe_check import check_readers
from tunesmith.recipe.load import load
from tunesmith.recipe.problems import InvalidRecipeError

SOURCES = """
data:
  sources:
    - path: missing.jsonl
      reader: sharegpt
      options: {strips: true, same_role: joined}
    - path: other.jsonl
      reader: alpaca
      fields: {answer: output}
      options: {drop_phrases: 3}
"""


def test_every_unknown_word_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(SOURCES)
    with pytest.raises(InvalidRecipeError) as refused:
        check_readers(load(["dolly-v2-3b", str(path)]))
    assert [str(problem).replace(str(tmp_path) + "/", "") for problem in refused.value.problems] == [
        "mine.yaml:6 data.sources.0.options.same_role: options.same_role of reader sharegpt is 'joined'; it must be "
        "error or merge",
        "mine.yaml:6 data.sources.0.options.strips: reader sharegpt has no options.strips; it has empty, leading, "
        "same_role, unescape, strip, strip_citations",
        "mine.yaml:9 data.sources.1.fields.answer: reader alpaca has no fields.answer; it has instruction, input, "
        "output, history, system",
        "mine.yaml:10 data.sources.1.options.drop_phrases: options.drop_phrases of reader alpaca is 3; it must be a "
        "list of texts, or null",
    ]


def test_show_refuses_an_unknown_option() -> None:
    with pytest.raises(InvalidRecipeError, match=r"has no options\.strip_citation; it has empty, strip_citations"):
        show("dolly-v2-3b", ["data.sources.0.options.strip_citation=true"])
