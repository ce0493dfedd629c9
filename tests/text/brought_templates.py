"""Chat templates of the common shapes, and tokenizers that have them."""

from __future__ import annotations

import json
from pathlib import Path

from tunesmith.text.tokenizer.tokenizer import Tokenizer

# Turns between marks, a default system message, blocks over many lines.
MARKS = """\
{%- if messages[0]['role'] != 'system' -%}
    {{- '<|im_start|>system\\nYou are a model.<|im_end|>\\n' }}
{%- endif -%}
{%- for message in messages %}
    {{- '<|im_start|>' + message['role'] + '\\n' }}
    {%- if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}
    {%- else %}{{ message['content'] + '<|im_end|>' }}{% endif %}
    {{- '\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|im_start|>assistant\\n' }}
{%- endif -%}
"""

# Questions in brackets, contents stripped, the system message inside the first question, an order that is checked.
BRACKETS = """\
{% if messages[0]['role'] == 'system' %}
{% set rest = messages[1:] %}{% set system = '<<' + messages[0]['content'] + '>>\\n' %}
{% else %}
{% set rest = messages %}{% set system = '' %}
{% endif %}
{{- bos_token -}}
{% for message in rest %}
{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{ raise_exception('Roles must alternate.') }}
{% endif %}
{% if message['role'] == 'user' %}
{{- '[Q] ' + ((system if loop.first else '') + message['content']).strip() + ' [/Q]' -}}
{% else %}
{{- ' ' + message['content'] | trim + ' ' + eos_token -}}
{% endif %}
{% endfor %}
"""

# Headers between marks, every content trimmed, the begin token in front of the first turn.
HEADERS = """\
{%- set ns = namespace(first=true) -%}
{%- for message in messages -%}
  {%- set turn = '<|head|>' + message['role'] + '<|/head|>\\n' + message['content'] | trim + '<|eot|>' -%}
  {%- if ns.first -%}{%- set turn = bos_token + turn -%}{%- set ns.first = false -%}{%- endif -%}
  {{- turn -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|head|>assistant<|/head|>\\n' -}}{%- endif -%}
"""

# Other names for the roles, no system message, tokens that strip the white space after them.
TURNS = """\
{{ bos_token }}{% for message in messages %}
{% if message['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
{{ '<turn>' + ('model' if message['role'] == 'assistant' else 'user') + '\\n' + message['content'] + '</turn>\\n' }}
{%- endfor %}
{% if add_generation_prompt %}{{ '<turn>model\\n' }}{% endif %}"""

# No line breaks at all, the system message before the loop, and an end token after a complete conversation.
ENDED = """\
{{- bos_token }}{%- if messages[0]['role'] == 'system' %}
{{- '<|system|>' + messages[0]['content'] + '<|end|>' -}}{%- endif -%}
{%- for message in messages if message['role'] != 'system' -%}
    {{- '<|' + message['role'] + '|>' + message['content'] + '<|end|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- else -%}{{- eos_token -}}{%- endif -%}
"""

TEMPLATES = {"marks": MARKS, "brackets": BRACKETS, "headers": HEADERS, "turns": TURNS, "ended": ENDED}
TOKENS = {
    "marks": ("<|im_start|>", "<|im_end|>"),
    "brackets": (),
    "headers": ("<|head|>", "<|/head|>", "<|eot|>"),
    "turns": ("<turn>", "</turn>"),
    "ended": ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
}
STRIPS = ("brackets", "headers")  # templates that strip white space at both ends of a reply


def bring(
    base: Path, directory: Path, template: str, tokens: tuple[str, ...] = (), taking: tuple[str, ...] = ()
) -> Path:
    """A copy of the tokenizer ``base`` with a chat template; the tokens ``taking`` strip the white space after them."""
    Tokenizer.load(str(base), tokens).save(directory, template)
    if taking:
        path = directory / "tokenizer.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        for token in content["added_tokens"]:
            token["rstrip"] = token["content"] in taking
        path.write_text(json.dumps(content), encoding="utf-8")
    return directory
