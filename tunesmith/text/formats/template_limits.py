"""Limits of a chat template: the work that it does, and the size of every value that it makes.

A template that is interpreted can do nothing but evaluate expressions, run the bodies of loops and macros, and write.
Each of these is charged to a budget before or while it happens, in units of about one character or a quarter of a node
of the template. No value may be larger than ``MAX_SIZE``, where parts that occur twice count twice, so an operation on
a value takes bounded time; operations whose results are much larger than their operands are measured before they run.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, ItemsView, Iterable, KeysView, Mapping, MappingView, ValuesView
from typing import Any

from jinja2 import nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

MAX_SIZE = 4 * 2**20  # characters of the output or of a value; an entry of a container counts as several
MAX_WORK = 100_000_000
LEAST_WORK = 4_000_000  # units that any conversation may take
WORK_PER_CHARACTER = 1_000  # units in addition, for every character of the messages
NODE, ENTRY = 4, 16  # units of a node of the template, and of an entry of a container
MAX_BITS = 4_096  # of a whole number
MAX_NUMBER = 10_000  # of characters, lines or entries that a function is asked for
BUDGET = "tunesmith budget"  # no name of a template has a space

_STEPS, _MADE, _JOINED, _COMPARED, _SEARCHED = (
    f"tunesmith {name}" for name in ("steps", "made", "joined", "compared", "searched")
)
_PARTS = frozenset(
    ("first", "last", "default", "d", "min", "max", "attr", "length", "count", "get", "pop", "setdefault")
)
"""Filters and methods that return one of the values that there are already, or a number."""
_REMOVED = ("random", "urlize", "xmlattr", "wordwrap", "pprint", "striptags", "slice", "batch")
"""Filters that no chat template needs, and whose results have no simple limit, or depend on chance."""
_COMPARING = frozenset(("eq", "ne", "lt", "le", "gt", "ge", "==", "!=", "<", "<=", ">", ">=", "in", "equalto"))
_BODIES = (nodes.For, nodes.Macro, nodes.CallBlock, nodes.Block)
CONTAINERS = (list, tuple, set, frozenset, Mapping, KeysView, ValuesView, ItemsView)
_LONG_NUMBER = re.compile(r"[0-9]{5}")


class LimitError(SecurityError):
    """A template does more work or writes more than is allowed."""


class Budget:
    """The work that a rendering may still do. left: units."""

    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        self.left = left

    def charge(self, units: int) -> None:
        """Raises LimitError if there is not so much left."""
        self.left -= max(units, 1)
        if self.left < 0:
            raise LimitError("it does too much work for these messages")


def new_budget(*values: Any) -> Budget:
    """The budget of a rendering of these values."""
    return Budget(min(LEAST_WORK + WORK_PER_CHARACTER * sum(map(measure, values)), MAX_WORK))


def measure(value: Any) -> int:
    """The size of a value in characters, about: whatever occurs twice in it counts twice.

    Raises LimitError for more than ``MAX_SIZE``.
    """
    total, stack = 0, [value]
    while stack:
        each = stack.pop()
        if isinstance(each, str | bytes):
            total += len(each)
        elif isinstance(each, int):
            total += 1 + each.bit_length() // 4
        elif isinstance(each, CONTAINERS):
            total += ENTRY * (len(each) + 1)
            if total <= MAX_SIZE:
                stack.extend(iter(each))
                if isinstance(each, Mapping):
                    stack.extend(each.values())
        else:
            total += 1
        check_size(total)
    return total


def check_size(size: int) -> None:
    """Raises LimitError for a value of more than ``MAX_SIZE`` characters."""
    if size > MAX_SIZE:
        raise LimitError(f"it makes a value of more than {MAX_SIZE:,} characters")


def _shallow(value: Any) -> int:
    """The number of characters or entries of a value, without what they hold."""
    return len(value) if isinstance(value, str | bytes | list | tuple | range | Mapping | MappingView) else 1


def _budget(context: Context) -> Budget:
    found: Budget = context.parent[BUDGET]
    return found


def charge_expressions(tree: nodes.Template, environment: ImmutableSandboxedEnvironment) -> None:
    """Add filters to a template that charge what happens in it: bodies, literals, slices, texts and comparisons."""
    for body in [*tree.find_all(_BODIES)]:
        written = sum(len(each.data) for each in body.find_all(nodes.TemplateData))
        cost = NODE * sum(1 for _ in body.find_all(nodes.Node)) + written
        step = _filtered(nodes.Const(cost), _STEPS)
        body.body.insert(0, nodes.ExprStmt(step, lineno=body.lineno))  # type: ignore[attr-defined]
        if isinstance(body, nodes.For) and body.test is not None:
            body.test = nodes.And(nodes.Not(_filtered(nodes.Const(cost), _STEPS)), body.test)
    for comparison in [*tree.find_all(nodes.Compare)]:
        comparison.expr = _filtered(comparison.expr, _COMPARED)
        for operand in comparison.ops:
            operand.expr = _filtered(operand.expr, _SEARCHED if operand.op in ("in", "notin") else _COMPARED)
    _replace(tree)
    tree.set_environment(environment)


def _filtered(node: nodes.Expr, name: str, *arguments: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(node, name, [*arguments], [], None, None, lineno=node.lineno)


def _replace(tree: nodes.Node) -> None:
    """Put filters around expressions that make containers or join texts, the innermost ones first."""
    for name, value in [*tree.iter_fields()]:
        if isinstance(value, nodes.Node):
            setattr(tree, name, _replaced(value))
        elif isinstance(value, list):
            value[:] = [_replaced(each) if isinstance(each, nodes.Node) else each for each in value]


def _replaced(node: nodes.Node) -> nodes.Node:
    _replace(node)
    if isinstance(node, nodes.Concat):
        return _filtered(node.nodes[0], _JOINED, *node.nodes[1:])
    is_made = isinstance(node, nodes.List | nodes.Dict) or (isinstance(node, nodes.Tuple) and node.ctx == "load")
    if is_made or (isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice)):
        assert isinstance(node, nodes.Expr)
        return _filtered(node, _MADE)
    return node


@pass_context
def _charge_steps(context: Context, cost: Any) -> bool:
    _budget(context).charge(cost if isinstance(cost, int) else 1)
    return False


@pass_context
def _charge_made(context: Context, value: Any) -> Any:
    _budget(context).charge(len(value) if isinstance(value, str) else measure(value))
    return value


@pass_context
def _join_parts(context: Context, *parts: Any) -> str:
    size = sum(map(measure, parts))
    check_size(size)
    _budget(context).charge(size)
    return "".join(map(str, parts))


@pass_context
def _charge_compared(context: Context, value: Any) -> Any:
    _budget(context).charge(len(value) // 8 if isinstance(value, str) else measure(value))
    return value


@pass_context
def _charge_searched(context: Context, value: Any) -> Any:
    if not isinstance(value, Mapping):
        _budget(context).charge(len(value) // 8 if isinstance(value, str) else measure(value))
    return value


@pass_context
def charge_output(context: Context, value: Any) -> Any:
    """Charge a value that is written; returns it."""
    _budget(context).charge(len(value) if isinstance(value, str) else measure(value))
    return value


class LimitedEnvironment(ImmutableSandboxedEnvironment):
    """Jinja in a sandbox that charges every filter, test, call and operator to the budget of the rendering."""

    intercepted_binops = frozenset(ImmutableSandboxedEnvironment.default_binop_table)

    def __init__(self, extensions: list[str]) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=extensions, finalize=charge_output, optimized=False
        )
        usual = {name: each for name, each in self.filters.items() if name not in _REMOVED}
        usual |= {"tojson": to_json, "join": join_values, "sum": add_values}
        self.filters = {name: _limited_filter(name, function) for name, function in usual.items()}
        own = (_charge_steps, _charge_made, _join_parts, _charge_compared, _charge_searched)
        self.filters |= dict(zip((_STEPS, _MADE, _JOINED, _COMPARED, _SEARCHED), own, strict=True))
        tests: dict[str, Any] = {**self.tests}
        self.tests = {name: _limited_test(name, function) for name, function in tests.items()}

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Call a function or method from a template. The names are those of Jinja, so that any keyword is possible."""
        budget = _budget(__context)
        if isinstance(__obj, Macro):
            budget.charge(NODE)
            return super().call(__context, __obj, *args, **kwargs)
        method = getattr(__obj, "__wrapped__", __obj)
        name, owner = getattr(method, "__name__", ""), getattr(method, "__self__", None)
        given = [value for key, value in kwargs.items() if not key.startswith("_")]
        budget.charge(measure([args, given]) + _shallow(owner))
        args = _check_call(name, owner, args, given) if isinstance(owner, str | bytes | int | list | dict) else args
        found = super().call(__context, __obj, *args, **kwargs)
        if name not in _PARTS:
            budget.charge(_shallow(found) if isinstance(found, str | MappingView) else measure(found))
        return found

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Apply an operator to two values."""
        _check_operator(operator, left, right)
        found = super().call_binop(context, operator, left, right)
        _budget(context).charge(measure(found))
        return found


def _limited_filter(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that is charged, and whose arguments and result are limited."""
    takes = getattr(function, "jinja_pass_arg", None)

    @pass_context
    def limited(context: Context, value: Any, *args: Any, **kwargs: Any) -> Any:
        budget = _budget(context)
        _check_numbers((*args, *kwargs.values()))
        budget.charge(_shallow(value) + measure([args, [*kwargs.values()]]))
        if name not in _PARTS:
            _check_filter(name, value, args, kwargs)
        first = {"context": context, "eval_context": context.eval_ctx, "environment": context.environment}
        given = [first[takes.name]] if takes is not None else []
        found = function(*given, value, *args, **kwargs)
        if name not in _PARTS:
            budget.charge(len(found) if isinstance(found, str) else measure(found))
        return found

    return limited


def _limited_test(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    takes = getattr(function, "jinja_pass_arg", None)

    @pass_context
    def limited(context: Context, value: Any, *args: Any) -> Any:
        compared = name in _COMPARING or name == "in"
        _budget(context).charge(measure([value, args]) if compared else 1)
        return function(*([context.environment] if takes is not None else []), value, *args)

    return limited


def _check_numbers(values: Iterable[Any]) -> None:
    """Raises LimitError for a number of characters, lines or entries that is very large."""
    for value in values:
        if isinstance(value, int) and abs(value) > MAX_NUMBER:
            raise LimitError(f"it asks a function for {value if value.bit_length() < 64 else 'very many'} characters")


def _check_filter(name: str, value: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Raises LimitError for a filter whose result would be too large."""
    given = (*args, *kwargs.values())
    if name == "list" and isinstance(value, str):
        check_size(ENTRY * len(value))
    elif name in ("indent", "replace"):
        text = str(value) if measure(value) else ""
        numbers = [each for each in given if isinstance(each, int)]
        texts = [len(each) for each in given if isinstance(each, str)]
        if name == "indent":
            check_size(len(text) + (text.count("\n") + 1) * max([*numbers, *texts, 4]))
        else:
            check_size(_replaced_size(text, *(str(each) for each in given if not isinstance(each, int))))
    elif name == "format":
        _check_format(str(value), "%", given)
    elif name not in ("map", "select", "reject", "selectattr", "rejectattr", "list"):
        measure(value)


def _check_call(name: str, owner: Any, args: tuple[Any, ...], given: list[Any]) -> tuple[Any, ...]:
    """Raises LimitError for a method whose result would be too large; returns its arguments, iterators as lists."""
    _check_numbers((*args, *given))
    if name in ("translate", "fromkeys"):
        raise SecurityError(f"the method {name!r} is not available")
    if name in ("index", "count") and isinstance(owner, list):
        measure(owner)
    if not isinstance(owner, str):
        return args
    if name == "replace":
        check_size(_replaced_size(owner, *(each for each in args if isinstance(each, str))))
    elif name == "expandtabs":
        widths = [each for each in (*args, *given) if isinstance(each, int)]
        check_size(len(owner) + owner.count("\t") * max([8, *widths]))
    elif name in ("format", "format_map"):
        _check_format(owner, "{", (*args, *given))
    elif name == "join" and len(args) == 1:
        parts = [*args[0]]
        check_size(measure(parts) + len(owner) * len(parts))
        return (parts,)
    return args


def _replaced_size(text: str, old: str = "", new: str = "", *_: Any) -> int:
    return len(text) + text.count(old) * len(new)


def _check_format(text: str, mark: str, values: Iterable[Any]) -> None:
    """Raises LimitError for a format string whose result could be too large."""
    _check_numbers(values if not isinstance(values, Mapping) else values.values())
    if _LONG_NUMBER.search(text):
        raise LimitError("it formats a value with a very large width")
    numbers = [int(each) for each in re.findall(r"[0-9]+", text)]
    widths = max([0, *numbers, *(abs(each) for each in values if isinstance(each, int))])
    check_size(len(text) + text.count(mark) * (measure([*values]) + widths))


def _check_operator(operator: str, left: Any, right: Any) -> None:
    """Raises LimitError for an operation whose result would be too large."""
    if isinstance(left, int) and isinstance(right, int):
        bits = (left.bit_length() or 1, right.bit_length())
        size = {"**": bits[0] * max(right, 0) if bits[1] < 32 else MAX_BITS + 1, "*": sum(bits)}.get(operator, 0)
        if size > MAX_BITS:
            raise LimitError("it makes a very large number")
    elif operator == "*":
        number, value = (left, right) if isinstance(left, int) else (right, left)
        if isinstance(number, int):
            check_size(measure(value) * max(number, 0))
    elif operator == "+":
        check_size(measure(left) + measure(right))
    elif operator == "%" and isinstance(left, str):
        values = right if isinstance(right, tuple) else (right.values() if isinstance(right, Mapping) else (right,))
        _check_format(left, "%", tuple(values))


def join_values(value: Iterable[Any], d: str = "", attribute: str | int | None = None) -> str:
    """The filter ``join``, with the names of Jinja: texts of values, or of an attribute of each."""
    found = [*value] if attribute is None else [_attribute(each, attribute) for each in value]
    check_size(measure(found) + len(str(d)) * len(found))
    return str(d).join(map(str, found))


def add_values(value: Iterable[Any], attribute: str | int | None = None, start: Any = 0) -> Any:
    """The filter ``sum``, with the names of Jinja, of numbers."""
    total = start
    for each in value:
        added = each if attribute is None else _attribute(each, attribute)
        if not isinstance(added, int | float) or not isinstance(total, int | float):
            raise SecurityError("the filter 'sum' adds numbers only")
        total = operator.add(total, added)
    return total


def _attribute(value: Any, name: str | int) -> Any:
    for part in str(name).split("."):
        value = value.get(part) if isinstance(value, Mapping) else value[int(part)]
    return value


def to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """The filter ``tojson`` as transformers defines it, which leaves out the escapes for HTML."""
    if indent is None:
        return json.dumps(value, ensure_ascii=ensure_ascii, separators=separators, sort_keys=sort_keys)
    encoder = json.JSONEncoder(ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
    parts: list[str] = []
    size = 0
    for part in encoder.iterencode(value):
        size += len(part)
        check_size(size)
        parts.append(part)
    return "".join(parts)


class Variables(Namespace):
    """A namespace whose text is short, whatever it holds."""

    def __repr__(self) -> str:
        return "<namespace>"
