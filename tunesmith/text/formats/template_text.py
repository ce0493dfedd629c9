"""What the exported chat templates of all prompt formats have in common."""

from __future__ import annotations

from tunesmith.text.formats.format import Format

_BEGIN = "{{ bos_token if bos_token else '' }}"
_TEXT = "{%- set text = message['content'] -%}"
_TEXT_WITH_CONTEXT = (
    "{%- set text = message['content'] + ('\\n\\n' + message['context'] if message['context'] else '') -%}"
)


def write_template(
    format: Format, body: str, *, context: str | None = None, opening: str | None = None, generation_prompt: str = ""
) -> str:
    """Write a Jinja chat template: a loop over the messages, which raises where ``find_order_fault`` finds a fault.

    body: the statements for one message; ``state.previous`` is the role before it, '' at the beginning.
    context: sets the variable ``text`` before the body, to the same text as ``with_context`` returns; None sets none.
    opening: the statements before the loop; None writes the bos token if the format begins with it.
    generation_prompt: the expression for the beginning of a reply; empty if a reply begins with nothing.
    """
    table = ", ".join(f"'{before or ''}': {list(after)}" for before, after in format.next_roles.items())
    start = opening if opening is not None else _BEGIN if format.bos else ""
    text = "" if context is None else _TEXT_WITH_CONTEXT if context == "keep" else _TEXT
    end = "{%- if add_generation_prompt -%}{{ " + generation_prompt + " }}{%- endif -%}" if generation_prompt else ""
    return (
        f"{start}"
        "{%- set follows = {" + table + "} -%}"
        "{%- set state = namespace(previous='') -%}"
        "{%- for message in messages -%}"
        "{%- if message['role'] not in follows[state.previous] -%}"
        "{{ raise_exception('prompt format " + format.name + ": a message of the ' + message['role'] + "
        "(' after one of the ' + state.previous if state.previous else ' at the beginning')) }}"
        "{%- endif -%}"
        f"{text}{body}"
        "{%- set state.previous = message['role'] -%}{%- endfor -%}"
        f"{end}"
    )
