"""What all pages for the browser have in common: one file each, which works from disk and loads nothing.

A page has one set of styles (``page.css``, and those of its kind), and its styles and scripts are named by their
digests in its Content-Security-Policy. Text from models, data and recipes is escaped by the template engine, or is JSON
that is not executed and enters the document only through ``textContent``.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined, Template

from tunesmith.text.visible import visible

EMBEDDED = re.compile("[&<>\u2028\u2029]")
STYLES = "page.css"
"""The styles of every page."""


@cache
def package_text(name: str, package: str = "tunesmith.report") -> str:
    """The text of a file in a package."""
    return files(package).joinpath(name).read_text("utf-8")


@cache
def page_style(*names: str) -> str:
    """The styles of all pages and those in the named files."""
    return "".join(package_text(name) for name in (STYLES, *names))


@cache
def page_template(name: str, package: str = "tunesmith.report") -> Template:
    """A template of a package, which escapes what it is given; ``visible`` also writes out invisible characters.

    It begins with ``page_head.html`` of this package, which has the head that all pages have in common.
    """
    environment = Environment(
        loader=FunctionLoader(package_text),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["visible"] = visible
    return environment.from_string(package_text(name, package))


def page_policy(style: str, scripts: Sequence[str] = ()) -> str:
    """The Content-Security-Policy of a page with these styles and scripts: everything else is forbidden."""
    allowed = " ".join(f"'{policy_digest(script)}'" for script in scripts)
    script_policy = f"script-src {allowed}; require-trusted-types-for 'script'; " if scripts else ""
    return f"default-src 'none'; {script_policy}style-src '{policy_digest(style)}'; base-uri 'none'; form-action 'none'"


@cache
def policy_digest(text: str) -> str:
    """A digest as a Content-Security-Policy names it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def embedded_json(value: Any) -> str:
    """JSON that can be the content of a ``script`` element: ``</script>`` and ``<!--`` cannot occur in it.

    U+2028 and U+2029, which end a line of older versions of JavaScript, are escaped as well.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return EMBEDDED.sub(lambda match: f"\\u{ord(match.group()):04x}", text)
