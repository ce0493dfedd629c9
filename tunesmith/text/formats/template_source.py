"""Where the text of a chat template comes from: the tokenizer, a file, a name, and the options that are written to it.

Variables and the place of the system message become the first lines of the template itself. So the template that is
trained on is the one that is exported, and other tools write the same prompts.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunesmith.errors import MissingInputError, RecipeError
from tunesmith.text.formats.template_engine import CLOCK, ChatTemplate

_DIRECTORY = Path(__file__).parent / "templates"
_NAME = re.compile(r"[\w.-]{1,60}")
_RESERVED = frozenset(
    ("messages", "tools", "documents", "add_generation_prompt", "bos_token", "eos_token", "pad_token", "unk_token")
)
SOURCE_OPTIONS = ("template", "template_file", "variables", "system")

# A template of a family has all of these texts; the first name whose texts occur is offered.
_FAMILIES: Mapping[str, tuple[str, ...]] = {
    "deepseek-r1": ("<\uff5cAssistant\uff5c><think>\\n",),
    "deepseek-v3": ("<\uff5cAssistant\uff5c>",),
    "qwen3": ("<|im_start|>", "</think>", "<args-json-object>"),
    "gpt-oss": ("<|channel|>", "<|return|>"),
}

_FIRST_USER = """\
{%- if messages and messages[0]['role'] == 'system' %}
{%- set messages = [{'role': 'user', 'content': messages[0]['content'] + '\\n\\n' + messages[1]['content']}] \
+ messages[2:] %}
{%- endif %}
"""


def template_names() -> tuple[str, ...]:
    """Return the names of the templates that are part of this package."""
    return tuple(sorted(path.stem for path in _DIRECTORY.glob("*.jinja")))


def read_named(name: str) -> str:
    """Return a template of this package, without its leading comment. Raises RecipeError for an unknown name."""
    names = template_names()
    if name not in names:
        close = difflib.get_close_matches(name, names, n=1)
        advice = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(names)}, or write a whole template"
        raise RecipeError(f"there is no chat template {name!r}", where="text.options.template", advice=advice)
    return (_DIRECTORY / f"{name}.jinja").read_text(encoding="utf-8")


def find_family(source: str) -> str | None:
    """Return the name of the template of this package for the family of a template, or None."""
    known = set(template_names())
    for name, texts in _FAMILIES.items():
        if name in known and all(text in source for text in texts) and read_named(name) not in source:
            return name
    return None


def resolve_template(own: str | None, given: Mapping[str, Any], place: str) -> str:
    """Return the text of the chat template that the options of a recipe mean.

    own: the template of the tokenizer; None if it has none.
    given: the options; those of ``SOURCE_OPTIONS`` are read.
    place: the tokenizer, for messages.

    Raises MissingInputError, RecipeError.
    """
    if "template" in given and "template_file" in given:
        what = "there are two chat templates: template and template_file"
        raise RecipeError(what, where="text.options", advice="leave one of them out")
    source = own
    if "template_file" in given:
        source = _read_file(given["template_file"])
    elif "template" in given:
        source = given["template"]
        if not isinstance(source, str):
            raise RecipeError("text.options.template is not text", advice="write a template, or the name of one")
        source = read_named(source) if _NAME.fullmatch(source) else source
    if source is None:
        names = ", ".join(template_names())
        advice = (
            "choose a prompt format by name, such as chatml, or give a template: text.options.template "
            f"({names}, or a whole template) or template_file"
        )
        raise RecipeError("this tokenizer has no chat template", where=place, advice=advice)
    system = given.get("system", "own")
    if system not in ("own", "first_user"):
        advice = "use own (as the template writes it) or first_user (before the first question)"
        raise RecipeError(f"text.options.system cannot be {system!r}", advice=advice)
    pinned = _pin(source, given.get("variables", {}))
    return pinned + (_FIRST_USER if system == "first_user" else "") + source


def _read_file(path: Any) -> str:
    if not isinstance(path, str) or not path:
        raise RecipeError("text.options.template_file is not a path", advice="name a file with a Jinja template")
    try:
        return Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        what = f"the chat template cannot be read as UTF-8 text ({type(error).__name__})"
        raise MissingInputError(what, where=path, advice="correct text.options.template_file") from error


def free_variables(template: ChatTemplate) -> list[str]:
    """Return the names of the variables that a recipe may give a template."""
    return sorted(template.reads - _RESERVED)


def _pin(source: str, variables: Any) -> str:
    """Return the first lines of a template that fix its variables. Raises RecipeError."""
    where = "text.options.variables"
    if not isinstance(variables, Mapping):
        raise RecipeError("not a mapping of names to values", where=where, advice="write {enable_thinking: false}")
    if not variables:
        return ""
    reads = free_variables(ChatTemplate(source, {}))
    lines = []
    for name, value in variables.items():
        if name not in reads:
            known = f"it reads {', '.join(reads)}" if reads else "it reads no variables"
            raise RecipeError(f"the chat template does not read a variable {str(name)!r}", where=where, advice=known)
        if not isinstance(value, str | bool | int | float) and value is not None:
            what = f"the variable {name!r} is not a text, a number, true, false or null"
            raise RecipeError(what, where=where, advice="write a single value")
        if name == CLOCK:
            lines.append(f"{{%- macro {CLOCK}(form) %}}{{{{- {str(value)!r} }}}}{{%- endmacro %}}\n")
        else:
            lines.append(f"{{%- set {name} = {_literal(value)} %}}\n")
    return "".join(lines)


def _literal(value: str | float | bool | None) -> str:
    """Return a value as a Jinja expression."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "none" if value is None else repr(value)
