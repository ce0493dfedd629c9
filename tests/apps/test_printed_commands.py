"""Commands that are printed: a shell reads them as they were meant, however many lines they have."""

from __future__ import annotations

import shlex

from hypothesis import given
from hypothesis import strategies as st

from tunesmith.apps.printed_commands import command_lines

WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), max_size=70)


@given(st.lists(WORDS | st.tuples(WORDS, WORDS), min_size=1, max_size=8))
def test_a_shell_reads_the_words_that_were_meant(words: list[str | tuple[str, str]]) -> None:
    flat = [part for word in words for part in ([word] if isinstance(word, str) else word)]
    lines = "\n".join(command_lines(words)).replace(" \\\n", "")  # a shell removes these, shlex keeps them
    assert shlex.split(lines) == flat


@given(st.lists(st.text("abc/.-", min_size=1, max_size=70), min_size=1, max_size=8))
def test_no_line_is_wider_than_eighty_columns(words: list[str]) -> None:
    assert max(map(len, command_lines(words))) <= 80


def test_an_option_stays_with_its_value() -> None:
    lines = list(command_lines(["tunesmith", "compare", "a" * 50, ("-o", "page of mine.html")]))
    assert lines == [f"  tunesmith compare {'a' * 50} \\", "      -o 'page of mine.html'"]
