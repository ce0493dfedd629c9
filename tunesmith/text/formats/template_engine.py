"""Renders chat templates with Jinja, set up as in transformers, in a sandbox with limits on work and values.

Templates of tokenizers come from anywhere, so they are not trusted: they get plain values only, and everything that
they do is charged to a budget (``template_limits``). There is no clock: a template that asks for the date is refused
unless the date is one of its variables.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

from jinja2 import meta, nodes
from jinja2.exceptions import SecurityError, TemplateError, TemplateSyntaxError
from jinja2.utils import Namespace

from tunesmith.errors import DataError, RecipeError
from tunesmith.text.formats.template_limits import (
    BUDGET,
    MAX_SIZE,
    LimitedEnvironment,
    LimitError,
    Variables,
    charge_expressions,
    new_budget,
)
from tunesmith.text.visible import visible

MAX_TEMPLATE_SIZE = 2**18  # characters
LONGEST_REASON = 300  # characters of what a template raises
CLOCK = "strftime_now"
# Marks the reply for tools that compute masks; here it is only a block.
_GENERATION = re.compile(r"(\{%[-+]?\s*)(end)?generation(\s*[-+]?%\})")


class ClockError(TemplateError):
    """A template asks for the date."""


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
        if len(source) > MAX_TEMPLATE_SIZE:
            raise RecipeError(f"a chat template of more than {MAX_TEMPLATE_SIZE:,} characters", advice=advice)
        environment = _environment()
        try:
            tree = environment.parse(_without_generation(source))
            _check_entries(tree)
            charge_expressions(tree, environment)
            self._compiled = environment.from_string(tree)
        except (TemplateSyntaxError, SecurityError, RecursionError, SyntaxError, MemoryError, ValueError) as error:
            raise RecipeError(f"the chat template cannot be read: {_reason(error)}", advice=advice) from error

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
        variables = {
            **self._variables,
            "messages": [dict(message) for message in messages],
            "tools": tools,
            "add_generation_prompt": generation,
        }
        parts: list[str] = []
        size = 0
        try:
            variables[BUDGET] = new_budget(variables["messages"], tools)
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
            raise TemplateLimitError(f"the chat template is refused: {_reason(error)}") from error
        except Exception as error:  # a template can raise anything, as its author wrote it
            raise DataError(f"the chat template raises: {_reason(error)}") from error
        return "".join(parts)


def _environment() -> LimitedEnvironment:
    """Return Jinja as transformers sets it up for chat templates, without randomness and clock."""
    environment = LimitedEnvironment(["jinja2.ext.loopcontrols"])
    environment.globals = {
        "range": environment.globals["range"],
        "dict": _dictionary,
        "namespace": _namespace,
        "raise_exception": _raise_exception,
        CLOCK: _refuse_clock,
    }
    return environment


def _reason(error: BaseException) -> str:
    """What an exception says, on one line and not too long."""
    text = visible(" ".join(str(error)[: 2 * LONGEST_REASON].split())) or type(error).__name__
    return text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]}..."


def _without_generation(source: str) -> str:
    return _GENERATION.sub(lambda match: _as_block(*match.groups()), source)


def _as_block(begin: str, end: str | None, finish: str) -> str:
    return f"{begin}endif{finish}" if end else f"{begin}if true{finish}"


def _check_entries(tree: nodes.Template) -> None:
    """Raises SecurityError for an entry of a namespace with a name that Python has a meaning for."""
    for reference in tree.find_all(nodes.NSRef):
        _check_name(reference.attr)


def _check_name(name: Any) -> None:
    if not isinstance(name, str) or name.startswith("_"):
        raise SecurityError(f"an entry of a namespace cannot be named {name!r}")


def _namespace(*arguments: Any, **values: Any) -> Namespace:
    content = dict(*arguments, **values)
    for name in content:
        _check_name(name)
    return Variables(content)


def _dictionary(*arguments: Any, **values: Any) -> dict[Any, Any]:
    return dict(*arguments, **values)


def _refuse_clock(*arguments: Any) -> None:
    raise ClockError("no clock")


def _raise_exception(message: Any) -> None:
    raise TemplateError(str(message))
