"""What `tunesmith check` prints and writes: the order, the width of a terminal, a line each in a pipe, the page."""

from __future__ import annotations

import io
import re
import shlex
from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tunesmith.report.check import Check, CheckReport, append_words, count_records, plain_lines, show_checks
from tunesmith.report.check_page import ShownExample, check_page, split_white_space
from tunesmith.text.tokens.show import ShownToken

LONG = (
    "184 of 3,000 records (27.6% of tokens) are longer than 512 tokens and dropped, which is more than most people mean"
)
REPORT = CheckReport(
    "mine",
    (
        Check("records", "pass", "2,816 of 3,000 records are used", "data", "an advice that nobody needs"),
        Check("evaluation overlap", "skip", "no file is named"),
        Check(
            "length limit",
            "warn",
            LONG,
            "text.max_length",
            append_words("text.max_length=768", to="keep all the tokens"),
            tuple((f"/data/{'x' * 50}/mine.jsonl:{n}", "is a record whose place has to be wrapped") for n in range(9)),
        ),
        Check("embedding rows", "fail", "10 rows are too few"),
    ),
    inputs={"command": ["tunesmith check mine.yaml"], "data": ["mine: mine.jsonl"], "split": []},
)


def printed(report: CheckReport, width: int) -> list[str]:
    output = io.StringIO()
    show_checks(Console(file=output, width=width, force_terminal=True, color_system=None), report)
    return [line.rstrip() for line in output.getvalue().splitlines()]


def test_failures_and_warnings_are_first_each_with_its_places_and_advice() -> None:
    lines = plain_lines(REPORT)
    assert [line.split()[0] for line in lines if re.match("(fail|warn|pass|skip) ", line)] == [
        *("fail", "warn", "pass", "skip")
    ]
    assert lines[1] == f"warn  length limit        {LONG}"
    assert lines[2].startswith("      - /data/")
    assert lines[7:10] == [
        "      - and more places, which check.json lists",
        "      append text.max_length=768 to keep all the tokens",
        "",
    ]
    assert "nobody needs" not in "\n".join(lines)
    assert lines[-1] == "mine cannot be trained like this: 1 failed, 1 warning, 1 passed, 1 skipped"


def test_a_terminal_of_80_columns_wraps_at_words_below_the_beginning_of_the_text() -> None:
    lines = printed(REPORT, 80)
    assert max(map(len, lines)) <= 80
    start = lines.index(next(line for line in lines if line.startswith("warn")))
    assert lines[start].startswith("warn  length limit        184 of 3,000 records")
    assert lines[start + 1].startswith(f"{'':26}")
    assert lines[start + 1][26] != " "
    assert LONG in " ".join(line.strip() for line in lines[start:]).replace("length limit        ", "")
    place = next(number for number, line in enumerate(lines) if line.startswith("      - /data"))
    assert lines[place + 1].startswith(f"{'':8}")
    assert lines[place + 1][8] != " "


def test_colour_is_not_the_only_sign_and_nothing_from_data_reaches_the_terminal() -> None:
    report = CheckReport("mine", (Check("records", "warn", "a \x1b[31mred\x1b[0m text", "", "do \x07 it"),))
    for lines in (plain_lines(report), printed(report, 80)):
        text = "\n".join(lines)
        assert "\x1b[31m" not in text
        assert "\\x1b[31mred" in text
        assert "\x07" not in text
        assert "warn" in text


def test_words_to_append_are_quoted_for_a_shell() -> None:
    advice = append_words("data.evaluation_sets=[my file.jsonl]", "a=1", to="see")
    assert shlex.split(advice)[1:3] == ["data.evaluation_sets=[my file.jsonl]", "a=1"]


def test_the_verb_agrees_with_the_number_of_records() -> None:
    assert count_records(1, 9, "have a fault") == "1 of 9 records has a fault"
    assert count_records(1, 9, "repeat it") == "1 of 9 records repeats it"
    assert count_records(0, 1_000, "are long") == "0 of 1,000 records are long"


def test_json_keeps_its_keys() -> None:
    content = REPORT.as_json()
    assert set(content) == {"recipe", "result", "counts", "checks", "facts", "inputs"}
    assert content["counts"] == {"fail": 1, "warn": 1, "pass": 1, "skip": 1}
    assert content["checks"][0]["name"] == "records"
    assert set(content["checks"][0]) == {"name", "status", "summary", "key", "advice", "places"}


class Elements(HTMLParser):
    """The start tags of a page with their classes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def classes(self) -> list[str]:
        return [attributes["class"] or "" for _, attributes in self.tags if "class" in attributes]


def token(text: str, *, target: bool = False, control: bool = False, cut: bool = False) -> ShownToken:
    return ShownToken(text, (7,), "assistant" if target else "user", target, control, cut)


EXAMPLE = ShownExample(
    *("mine.jsonl:3", "mine", "", "longer than the limit", 0, 600, 90),
    [[token("<|user|>", control=True), token(" two words\n"), token("\tyes\N{NO-BREAK SPACE}", target=True, cut=True)]],
    more_tokens=597,
)


def test_the_page_has_the_inputs_the_checks_in_order_and_every_token_with_its_marks() -> None:
    page = Elements(check_page(REPORT, [EXAMPLE]))
    assert page.open == []
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in page.tags}
    assert "tunesmith check mine.yaml" in page.text
    assert "split" not in page.text.partition("Checks")[0].rpartition("}")[2]
    rows = [attributes["class"] for tag, attributes in page.tags if tag == "tr"]
    assert rows == ["fail", "warn", "pass", "skip"]
    classes = page.classes()[page.classes().index("use dropped") :]
    assert classes == [
        *("use dropped", "thread", "turn", "role", "tokens", "token control", "token", "space", "space", "line"),
        *("turn", "role", "tokens", "token target lost", "tab", "other"),
    ]
    assert "dropped: longer than the limit" in page.text
    assert "600 tokens" in page.text
    assert "of them" not in page.text  # nothing of a dropped record is trained
    assert "597 further tokens" in page.text


def test_the_page_fits_a_phone_a_dark_screen_and_paper() -> None:
    page = check_page(REPORT, [])
    for condition in ("(max-width: 40rem)", "print"):
        assert f"@media {condition}" in page
    assert "color-scheme: light dark" in page
    assert 'name="viewport"' in page


@given(st.text())
def test_white_space_is_divided_without_loss(text: str) -> None:
    parts = list(split_white_space(text))
    assert "".join(part for _, part in parts) == text
    assert all((kind == "text") != part.isspace() for kind, part in parts)


@given(st.text(max_size=20), st.text(max_size=20))
def test_nothing_of_a_record_becomes_markup(text: str, place: str) -> None:
    example = ShownExample(place, "mine", "training", "", 0, 1, 1, [[token(text, target=True)]])
    page = Elements(check_page(REPORT, [example]))
    assert page.open == []
    kinds = [kind for kind, _ in split_white_space(text) if kind != "text"]
    assert [name for name in page.classes() if name in ("space", "tab", "line", "other")][4:] == kinds
