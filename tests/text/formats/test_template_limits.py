"""Templates without end are refused, those that reach for Python find nothing, and useful ones write the same."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.campaigns.hostile_templates import BOMBS, INJECTIONS, close_output
from tests.model.hostile_directories import ESCAPE
from tunesmith.errors import TunesmithError
from tunesmith.text.formats.template_engine import ChatTemplate
from tunesmith.text.formats.template_limits import MAX_SIZE, Budget, LimitError, measure, new_budget

MESSAGES = [{"role": "user", "content": "Say red."}]


def written(template: str, messages: Any = MESSAGES) -> str | None:
    """What a template writes; None if it is refused, with a sentence."""
    refusal = None
    try:
        return ChatTemplate(template, {}).render(messages)
    except TunesmithError as error:
        refusal = str(error)
    assert "\n" not in refusal
    assert len(refusal) < 700
    return None


@pytest.mark.parametrize("name", BOMBS)
def test_a_template_without_end_is_refused_or_writes_little(name: str) -> None:
    """Without the limits most of these take all memory or never end."""
    text = close_output(BOMBS[name], "{% set ignored = ", " %}").replace("NUMBER", "60")
    assert len(written(text) or "") <= MAX_SIZE


@pytest.mark.parametrize("text", INJECTIONS)
def test_a_template_that_reaches_for_python_finds_nothing(text: str) -> None:
    found = written(text.replace("ESC", repr(ESCAPE))) or ""
    assert "built-in" not in found
    assert "<class" not in found
    assert "__globals__" not in found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ 'a' ~ 1 ~ none ~ [1, 'b'] }}", "a1None[1, 'b']"),
        ("{{ ['a', 'b'] | join(', ') }}{{ messages | join('|', attribute='role') }}", "a, buser"),
        ("{{ [{'n': 1}, {'n': 2}] | sum(attribute='n') }}{{ [1.5, 2] | sum(start=1) }}", "34.5"),
        ("{{ '%s is %d' % ('a', 7) }}{{ '%s' | format('x') }}{{ '{}:{b}'.format(1, b=2) }}", "a is 7x1:2"),
        ("{{ 'a-b'.replace('-', '+') }}{{ 'a b' | replace(' ', '') }}{{ ' '.join(['x', 'y']) }}", "a+babx y"),
        ("{{ {'a': [1, {'b': 'é'}]} | tojson }}", '{"a": [1, {"b": "é"}]}'),
        ("{{ {'a': 1} | tojson(indent=2) }}", json.dumps({"a": 1}, indent=2)),
        ("{% for m in messages if m.role == 'user' %}{{ loop.index }}{% endfor %}", "1"),
        ("{% set n = namespace(x=0) %}{% for i in range(5) %}{% set n.x = n.x + i %}{% endfor %}{{ n.x }}", "10"),
        ("{% macro f(a, b='c') %}{{ a }}{{ b }}{{ caller() if caller }}{% endmacro %}{{ f('x') }}", "xc"),
        ("{% macro f() %}<{{ caller() }}>{% endmacro %}{% call f() %}in{% endcall %}", "<in>"),
        ("{{ messages[0:1] | length }}{{ messages[::-1][0].role }}{{ 'abc'[1:] }}", "1userbc"),
        ("{{ 'user' in messages[0].role and 'x' not in 'abc' and 1 in [1] }}", "True"),
        ("{{ messages | selectattr('role', 'equalto', 'user') | list | length }}", "1"),
        ("{{ messages | map(attribute='content') | map('upper') | first }}", "SAY RED."),
        ("{{ '  a\\nb' | trim | indent(2) }}{{ 'a' | center(3) }}{{ 7 | string }}", "a\n  b a 7"),
        ("{% set x %}{{ messages[0].content }}!{% endset %}{{ x | length }}", "9"),
        ("{% for k, v in {'b': 1, 'a': 2} | dictsort %}{{ k }}{{ v }}{% endfor %}", "a2b1"),
    ],
)
def test_a_useful_template_writes_what_jinja_writes(text: str, expected: str) -> None:
    assert written(text) == expected


def test_a_long_conversation_has_more_work() -> None:
    text = "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ '!' * 100 }}\n{% endfor %}"
    assert len(written(text, MESSAGES * 3_000) or "") > 300_000


def test_what_occurs_twice_counts_twice() -> None:
    value: Any = "abcd"
    for _ in range(5):
        value = [value, value]
    assert measure(value) > 32 * 4
    for _ in range(60):
        value = [value, value]
    with pytest.raises(LimitError, match="a value of more than"):
        measure(value)


def test_a_budget_ends() -> None:
    budget = Budget(10)
    budget.charge(10)
    with pytest.raises(LimitError, match="too much work"):
        budget.charge(0)
    assert new_budget(MESSAGES).left < new_budget(MESSAGES * 50).left
