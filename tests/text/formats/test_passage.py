"""Where prompt formats write the passage of a message."""

from __future__ import annotations

import pytest

from tunesmith.text.formats.chat import Chatml
from tunesmith.text.formats.format import Format
from tunesmith.text.formats.instruction import Alpaca, Dolly, Plain
from tunesmith.text.formats.passage import find_passage_label
from tunesmith.text.formats.t5 import T5Dolly


@pytest.mark.parametrize(
    ("format", "label"),
    [
        (Dolly(), "Input:"),
        (Alpaca(), "### Input:"),
        (T5Dolly(label="Context:"), "Context:"),
        (T5Dolly(), ""),
        (Chatml(), ""),
        (Plain(), ""),
        (Plain(context="drop"), None),
    ],
)
def test_the_label_is_what_the_format_writes_before_a_passage(format: Format, label: str | None) -> None:
    assert find_passage_label(format) == label
