"""Renders chat templates with Jinja, set up as in transformers, in a sandbox with limits on work and output.

Templates of tokenizers come from anywhere, so they are not trusted: they get plain values only, every round of a loop
and every call of a macro counts as a step, the number of steps is limited, and so is the size of a value and of the
output. There is no clock: a template that asks for the date is refused unless the date is one of its variables.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Any

from jinja2 import Environment, meta, nodes
from jinja2.exceptions import SecurityError, TemplateError, TemplateSyntaxError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from tunesmith.errors import DataError, RecipeError

MAX_SIZE = 4 * 2**20  # characters of the output or of an intermediate value
MAX_TEMPLATE_SIZE = 2**18  # characters
MAX_STEPS = 500_000
CLOCK = "strftime_now"
_STEP = "tunesmith_counts_this_step"
# Marks the reply for tools that compute masks; here it is only a block.
_GENERATION = re.compile(r"(\{%[-+]?\s*)(end)?generation(\s*[-+]?%\})")


class ClockError(TemplateError):
    """A template asks for the date."""


class LimitError(SecurityError):
    """A template does more work or writes more than is allowed."""


class TemplateLimitError(DataError):
    """A template that does too much work for some messages, and may do so for all."""


class ChatTemplate:
    """A compiled chat template.

    source: the template.
    variables: the texts of the special tokens, by the names ``bos_token``, ``eos_token``, ...

    Raises RecipeError for a template that is not Jinja.
    """

    def __init__(self, source: str, variables: Mapping[str, str]) -> None:
        self._source = source
        self._variables: dict[str, Any] = {**variables, "documents": None}
        advice = "use another prompt format, or correct the template of the tokenizer"
        if len(source) > MAX_TEMPLATE_SIZE or _STEP in source:
            raise RecipeError(f"a chat template of more than {MAX_TEMPLATE_SIZE:,} characters", advice=advice)
        environment = _environment()
        try:
            tree = environment.parse(_without_generation(source))
            _count_steps(tree, environment)
            self._compiled = environment.from_string(tree)
        except (TemplateSyntaxError, SecurityError, RecursionError) as error:
            raise RecipeError(f"the chat template cannot be read: {error}", advice=advice) from error

    @property
    def reads(self) -> frozenset[str]:
        """The names of the variables that the template may be given."""
        tree = _environment().parse(_without_generation(self._source))
        clock = {node.name for node in tree.find_all(nodes.Name) if node.name == CLOCK}
        return frozenset(meta.find_undeclared_variables(tree) | clock)

    def with_variable(self, name: str, value: bool) -> ChatTemplate:
        """Return the template with a value for one of its variables."""
        found = copy(self)
        found._variables = {**self._variables, name: value}
        return found

    def render(
        self, messages: Sequence[Mapping[str, Any]], *, tools: list[Any] | None = None, generation: bool = False
    ) -> str:
        """Return the text that the template writes.

        messages: mappings with ``role``, ``content`` and further keys.
        tools: the definitions of tools.
        generation: whether the generation prompt follows.

        Raises DataError with the message of an exception that the template raises, of the kind TemplateLimitError if
        it takes too much work.
        """
        steps = iter(range(MAX_STEPS))

        def step() -> None:
            if next(steps, None) is None:
                raise LimitError(f"it takes more than {MAX_STEPS:,} steps")

        variables = {
            **self._variables,
            _STEP: step,
            "messages": [dict(message) for message in messages],
            "tools": tools,
            "add_generation_prompt": generation,
        }
        parts: list[str] = []
        size = 0
        try:
            for part in self._compiled.generate(variables):
                size += len(part)
                if size > MAX_SIZE:
                    raise LimitError(f"it writes more than {MAX_SIZE:,} characters")
                parts.append(part)
        except ClockError as error:
            name = min((name for name in self.reads if "date" in name.lower()), default=CLOCK)
            what = "the chat template writes today's date, so the training texts would depend on the day; pin it with"
            raise DataError(f'{what} text.options.variables: {{{name}: "26 Jul 2024"}}') from error
        except LimitError as error:
            raise TemplateLimitError(f"the chat template raises: {error}") from error
        except Exception as error:  # a template can raise anything, as its author wrote it
            raise DataError(f"the chat template raises: {error or type(error).__name__}") from error
        return "".join(parts)


def _environment() -> ImmutableSandboxedEnvironment:
    """Return Jinja as transformers sets it up for chat templates, without randomness and clock."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals = {
        "range": environment.globals["range"],
        "dict": _dictionary,
        "namespace": _namespace,
        "raise_exception": _raise_exception,
        CLOCK: _refuse_clock,
    }
    environment.filters = {**environment.filters, "tojson": _to_json}
    del environment.filters["random"]
    environment.intercepted_binops = frozenset(("+", "*", "**"))
    environment.binop_table = {**environment.binop_table, "+": _plus, "*": _times, "**": _power}
    return environment


def _without_generation(source: str) -> str:
    return _GENERATION.sub(lambda match: _as_block(*match.groups()), source)


def _as_block(begin: str, end: str | None, finish: str) -> str:
    return f"{begin}endif{finish}" if end else f"{begin}if true{finish}"


def _count_steps(tree: nodes.Template, environment: Environment) -> None:
    """Add a call that counts a step to the body of every loop and macro. Raises SecurityError."""
    for node in tree.find_all((nodes.For, nodes.Macro, nodes.CallBlock)):
        assert isinstance(node, nodes.For | nodes.Macro | nodes.CallBlock)
        call = nodes.Call(nodes.Name(_STEP, "load"), [], [], None, None, lineno=node.lineno)
        node.body.insert(0, nodes.ExprStmt(call, lineno=node.lineno))
    for reference in tree.find_all(nodes.NSRef):
        _check_name(reference.attr)
    tree.set_environment(environment)


def _check_name(name: Any) -> None:
    if not isinstance(name, str) or name.startswith("_"):
        raise SecurityError(f"an entry of a namespace cannot be named {name!r}")


def _namespace(*arguments: Any, **values: Any) -> Namespace:
    content = dict(*arguments, **values)
    for name in content:
        _check_name(name)
    return Namespace(content)


def _dictionary(*arguments: Any, **values: Any) -> dict[Any, Any]:
    return dict(*arguments, **values)


def _refuse_clock(*arguments: Any) -> None:
    raise ClockError("no clock")


def _raise_exception(message: Any) -> None:
    raise TemplateError(str(message))


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _plus(left: Any, right: Any) -> Any:
    return _limited(operator.add, left, right, _size(left) + _size(right))


def _times(left: Any, right: Any) -> Any:
    largest = max(
        _size(left) * right if isinstance(right, int) else 0, _size(right) * left if isinstance(left, int) else 0
    )
    return _limited(operator.mul, left, right, largest)


def _power(left: Any, right: Any) -> Any:
    return _limited(operator.pow, left, right, 0 if abs(right) < 64 and abs(left) < 2**32 else MAX_SIZE + 1)


def _size(value: Any) -> int:
    return len(value) if isinstance(value, str | list | tuple) else 0


def _limited(operation: Callable[[Any, Any], Any], left: Any, right: Any, size: int) -> Any:
    if size > MAX_SIZE:
        raise SecurityError(f"a value of more than {MAX_SIZE:,} characters")
    return operation(left, right)
