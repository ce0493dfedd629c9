"""Hostile chat templates."""

from __future__ import annotations

import json
from collections.abc import Mapping

from tests.campaigns.hostile_world import Trial, change_json
from tests.model.hostile_directories import ESCAPE

HEAD = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
TAIL = "{% if add_generation_prompt %}a: {% endif %}"

BOMBS: Mapping[str, str] = {
    "double by ~": (
        "{% set n = namespace(x='ab') %}{% for i in range(NUMBER) %}{% set n.x = n.x ~ n.x %}{% endfor %}OUT(n.x)"
    ),
    "double by +": (
        "{% set n = namespace(x='ab') %}{% for i in range(NUMBER) %}{% set n.x = n.x + n.x %}{% endfor %}OUT(n.x)"
    ),
    "double by format": (
        "{% set n = namespace(x='ab') %}{% for i in range(NUMBER) %}{% set n.x = '%s%s' % (n.x, n.x)"
        " %}{% endfor %}OUT(n.x)"
    ),
    "double by .format": (
        "{% set n = namespace(x='ab') %}{% for i in range(NUMBER) %}{% set n.x ="
        " '{0}{0}'.format(n.x) %}{% endfor %}OUT(n.x)"
    ),
    "double by the filter format": (
        "{% set n = namespace(x='ab') %}{% for i in range(NUMBER) %}{% set n.x = '%s%s' |"
        " format(n.x, n.x) %}{% endfor %}OUT(n.x)"
    ),
    "double by join": (
        "{% set n = namespace(x='ab') %}{% for i in range(NUMBER) %}{% set n.x = [n.x, n.x] | join"
        " %}{% endfor %}OUT(n.x)"
    ),
    "double by .join": (
        "{% set n = namespace(x='ab') %}{% for i in range(NUMBER) %}{% set n.x = ''.join([n.x, n.x])"
        " %}{% endfor %}OUT(n.x)"
    ),
    "double by replace": (
        "{% set n = namespace(x='aa') %}{% for i in range(NUMBER) %}{% set n.x = n.x.replace('a',"
        " 'aaaa') %}{% endfor %}OUT(n.x)"
    ),
    "double by the filter replace": (
        "{% set n = namespace(x='aa') %}{% for i in range(NUMBER) %}{% set n.x = n.x | replace('a',"
        " 'aaaa') %}{% endfor %}OUT(n.x)"
    ),
    "double a list": (
        "{% set n = namespace(x=[1, 2]) %}{% for i in range(NUMBER) %}{% set n.x = n.x + n.x %}{%"
        " endfor %}OUT(n.x|length)"
    ),
    "list of lists": (
        "{% set n = namespace(x=[1]) %}{% for i in range(NUMBER) %}{% set n.x = [n.x, n.x] %}{% endfor %}OUT(n.x)"
    ),
    "list of lists to JSON": (
        "{% set n = namespace(x=[1]) %}{% for i in range(NUMBER) %}{% set n.x = [n.x, n.x] %}{%"
        " endfor %}OUT(n.x|tojson)"
    ),
    "objects in objects": (
        "{% set n = namespace(x=1) %}{% for i in range(NUMBER) %}{% set n.x = {'a': n.x, 'b': n.x}"
        " %}{% endfor %}OUT(n.x|string)"
    ),
    "namespaces in namespaces": (
        "{% set n = namespace(x=1) %}{% for i in range(NUMBER) %}{% set n.x = namespace(a=n.x,"
        " b=n.x) %}{% endfor %}OUT(n.x)"
    ),
    "compare lists of lists": (
        "{% set n = namespace(x=[1], y=[1]) %}{% for i in range(NUMBER) %}{% set n.x = [n.x, n.x]"
        " %}{% set n.y = [n.y, n.y] %}{% endfor %}OUT(n.x == n.y)"
    ),
    "square a number": (
        "{% set n = namespace(x=12345678901234567) %}{% for i in range(NUMBER) %}{% set n.x = n.x *"
        " n.x %}{% endfor %}OUT(n.x % 7)"
    ),
    "add numbers": (
        "{% set n = namespace(x=2**60) %}{% for i in range(NUMBER) %}{% set n.x = n.x + n.x %}{% endfor %}OUT(n.x)"
    ),
    "power": "OUT(2 ** (2 ** NUMBER))",
    "power of a power": "OUT((((99999999 ** 60) ** 60) ** 60) ** 60)",
    "center": "OUT('a'.center(10 ** NUMBER))",
    "filter center": "OUT('a' | center(10 ** 9))",
    "ljust in a list": "{% for i in range(1000) %}{% set x = 'a'.ljust(4000000) %}{% endfor %}OUT(x)",
    "zfill": "OUT('7'.zfill(10 ** 10))",
    "width of %": "OUT('%1000000000d' % 7)",
    "width of % as a value": "OUT('%*d' % (1000000000, 7))",
    "precision of %": "OUT('%.1000000000f' % 7)",
    "width of format": "OUT('{:1000000000}'.format(7))",
    "width of format as a value": "OUT('{:{}}'.format(7, 10 ** 9))",
    "precision of format": "OUT('{:.900000000f}'.format(7.5))",
    "tabs": "OUT(('\\t' * 100000).expandtabs(100000))",
    "indent": "OUT(('\\n' * 100000) | indent(100000, true, true))",
    "indent of JSON": "OUT([[[[[[[[1]]]]]]]] | tojson(indent=1000000000))",
    "wrapped words": "OUT(('a ' * 100000) | wordwrap(1, true, 'x' * 100000))",
    "long separator": "OUT(range(100000) | join('x' * 1000000))",
    "long replacement": "OUT(('a' * 1000000).replace('a', 'b' * 1000000))",
    "replace nothing": "OUT(('a' * 1000000).replace('', 'b' * 1000000))",
    "links": "OUT(('http://a.b ' * 100000) | urlize)",
    "batches": "OUT([1] | batch(1000000000, 0) | list)",
    "slices": "OUT([1] | slice(1000000000) | list)",
    "sum of lists": "OUT(([[1] * 1000] * 1000) | sum(start=[]))",
    "list of a string": (
        "{% set n = namespace(x=[]) %}{% for i in range(1000) %}{% set n.x = [n.x, ('a' * 4000000) |"
        " list] %}{% endfor %}OUT(n.x)"
    ),
    "split": (
        "{% set n = namespace(x=[]) %}{% for i in range(1000) %}{% set n.x = [n.x, ('a ' *"
        " 2000000).split()] %}{% endfor %}OUT(1)"
    ),
    "many large values": (
        "{% set n = namespace(x=[]) %}{% for i in range(5000) %}{% set n.x = [n.x, ('a' * 4000000)]"
        " %}{% endfor %}OUT(1)"
    ),
    "nested loops": (
        "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}{% endfor"
        " %}{% endfor %}{% endfor %}"
    ),
    "deep loops": "{% for a in range(30) recursive %}{{ loop(range(30)) }}{% endfor %}",
    "macro": ("{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(NUMBER) }}"),
    "macro without end": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "macro that calls": (
        "{% macro f(n) %}{% if n %}{% call f(n - 1) %}{% endcall %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(25) }}"
    ),
    "growing macro": (
        "{% macro f(s, n) %}{% if n %}{{ f(s ~ s, n - 1) }}{% else %}{{ s }}{% endif %}{% endmacro"
        " %}{{ f('ab', NUMBER) }}"
    ),
    "block in a block": "{% set x %}{% for i in range(100000) %}{{ 'a' * 4000000 }}{% endfor %}{% endset %}OUT(x)",
    "long text in a loop": "{% set x %}{% for i in range(100000) %}"
    + "y" * 50_000
    + "{% endfor %}{% endset %}OUT(x|length)",
    "filter block": "{% filter upper %}{% for i in range(100000) %}{{ 'a' * 4000000 }}{% endfor %}{% endfilter %}",
    "large loop body": "{% for i in range(99999) %}" + "{% if i %}{% endif %}" * 5_000 + "{% endfor %}",
    "large expression": "{% for i in range(99999) %}{{ " + "-".join(["i"] * 5_000) + " }}{% endfor %}",
    "large list in a loop": "{% for i in range(99999) %}{% set x = [" + "i," * 5_000 + "] %}{% endfor %}",
    "search": "{% for i in range(99999) %}{% if 'b' in 'a' * 4000000 %}{% endif %}{% endfor %}",
    "search in one value": (
        "{% set x = 'a' * 4000000 %}{% for i in range(99999) %}{% if 'b' in x %}{% endif %}{% endfor %}"
    ),
    "counts in a value": "{% set x = 'a' * 4000000 %}{% for i in range(9999) %}{% set y = x.count('b') %}{% endfor %}",
    "compare long texts": (
        "{% set x = 'a' * 4000000 %}{% set y = x ~ 'a' %}{% set z = 'a' * 4000000 ~ 'a' %}{% for i"
        " in range(99999) %}{% if z == y %}{% endif %}{% endfor %}"
    ),
    "slices of one value": "{% set x = 'a' * 4000000 %}{% for i in range(99999) %}{% set y = x[1:] %}{% endfor %}",
    "sort": "{% for i in range(99999) %}{% set y = range(99999) | sort(reverse=true) %}{% endfor %}",
    "list of a range": "{% for i in range(99999) %}{% set y = range(99999) | list %}{% endfor %}",
    "map of map": "OUT(range(99999) | map('string') | map('center', 100000) | list | length)",
    "select": "{% for i in range(9999) %}{% set y = range(99999) | select('odd') | list %}{% endfor %}",
    "unpack": "{% for i in range(99999) %}{% set y = dict(a=range(99999) | list) %}{% endfor %}",
    "large range": "{% for i in range(10 ** 12) %}{% endfor %}",
    "deep brackets": "{{ " + "(" * 5_000 + "1" + ")" * 5_000 + " }}",
    "deep lists": "{{ " + "[" * 400 + "1" + "]" * 400 + " }}",
    "deep blocks": "{% if true %}" * 2_000 + "{% endif %}" * 2_000,
    "deep blocks below the limit": "{% if true %}" * 90 + "{% endif %}" * 90,
    "deep loops of one element": "{% for a in [1] %}" * 25 + "{% endfor %}" * 25,
    "long chain": "{{ 1" + " + 1" * 20_000 + " }}",
    "long chain of ~": "{{ 'a'" + " ~ 'a'" * 20_000 + " }}",
    "constant": "{{ 'a' * 100000000 * 100 }}",
    "constant power": "{{ 10 ** 10 ** 10 }}",
    "constant filter": "{{ 'a' | center(9999999999) }}",
    "constant format": "{{ '%9999999999d' % 7 }}",
    "title": "OUT(('a ' * 2000000) | title)",
    "wordcount": "{% set x = 'a ' * 2000000 %}{% for i in range(999) %}{{ x | wordcount }}{% endfor %}",
    "urlencode": "{% set x = ' ' * 4000000 %}{% for i in range(999) %}{% set y = x | urlencode %}{% endfor %}",
    "escape": "{% set x = '<' * 4000000 %}{% for i in range(999) %}{% set y = x | escape %}{% endfor %}",
    "striptags": "OUT(('<' * 1000000) | striptags)",
    "pretty": (
        "{% set n = namespace(x=[1]) %}{% for i in range(25) %}{% set n.x = [n.x, n.x] %}{% endfor %}OUT(n.x|pprint)"
    ),
    "from contents": (
        "{% for m in messages %}{% set n = namespace(x=m.content) %}{% for i in range(NUMBER) %}{%"
        " set n.x = n.x ~ n.x %}{% endfor %}OUT(n.x)[[{{ m.content }}]]{% endfor %}"
    ),
    "only for a word": (
        "{% for m in messages %}{% if 'red' in m.content %}{% set n = namespace(x='ab') %}{% for i"
        " in range(NUMBER) %}{% set n.x = n.x ~ n.x %}{% endfor %}OUT(n.x){% endif %}{% endfor %}"
    ),
    "almost too much": "{% for i in range(99999) %}{% set x = i %}{% endfor %}",
    "almost too much text": "{% for i in range(3) %}{% set x = ('a' * 1000000) | upper %}{% endfor %}",
}

"""Name -> a template whose work, memory or output has no end. OUT prints or only computes; NUMBER is large."""

INJECTIONS: tuple[str, ...] = (
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ messages.__class__.__base__.__subclasses__()[0]('canary') }}",
    "{{ self.__init__.__globals__.__builtins__.open('canary', 'w') }}",
    "{{ cycler.__init__.__globals__.os.system('touch canary') }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ range.__self__ }}{{ raise_exception.__globals__ }}",
    "{{ raise_exception.__globals__['json'].codecs.open('canary', 'w') }}",
    "{{ dict.__globals__ }}{{ (dict | attr('__globals__')) }}",
    "{{ ('{0.__class__.__init__.__globals__}').format(namespace(a=1)) }}",
    "{{ '{a.__class__}'.format_map({'a': 1}) }}",
    "{{ messages | map(attribute='__class__') | list }}",
    "{{ [namespace] | map(attribute='__init__.__globals__') | list }}",
    "{% set ns = namespace() %}{% set ns.__class__ = 1 %}{{ ns }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}{{ os.system('touch canary') }}",
    "{% extends '../outside/config.json' %}",
    "{% from '/dev/zero' import x %}",
    "{{ lipsum(n=1000000) }}",
    "{{ joiner('x').__init__.__globals__ }}",
    "{{ messages.append(messages) }}",
    "{{ messages[0].update({'content': 'x'}) }}",
    "{{ messages.pop() }}{{ messages.clear() }}",
    "{{ loop.__class__ }}{{ caller.__class__ }}",
    "{% for m in messages recursive %}{{ loop.__class__.__init__ }}{{ loop._iterator }}{% endfor %}",
    "{{ (messages | groupby('role'))[0].__class__ }}",
    "{{ (messages | list | random) }}",
    "{{ strftime_now('%Y' * 1000000) }}",
    "{{ raise_exception(ESC) }}",
    "{{ raise_exception('a\\n' * 100000) }}",
    "{{ undefined_function() }}{{ messages.nothing.more }}",
    "{{ 1 / 0 }}{{ 'a' + 1 }}",
    "{% set tunesmith_counts_this_step = 1 %}{{ tunesmith_counts_this_step }}",
    "{{ environment }}{{ context }}{{ resolve('x') }}{{ self._TemplateReference__context }}",
    "{{ ESC }}{% raw %}{{ ESC }}{% endraw %}",
    "{% for m in messages %}{{ m.items() | list }}{% endfor %}",
    "{{ (1).__class__ }}{{ (1).to_bytes(10 ** 9) }}",
    "{{ 'a'.encode('idna') }}{{ 'a'.translate({97: 'b' * 1000000}) }}",
    "{{ messages | tojson(indent=ESC) }}",
    "{{ messages | sort(attribute='role.__class__') }}",
    "{% trans %}x{% endtrans %}{% debug %}",
    "{% autoescape true %}{{ messages }}{% endautoescape %}",
    "{% set x = messages[999999].content %}",
    "{{ '%(x)s' % messages }}{{ '%s' % (messages,) }}",
    "{{ '\\ud800' }}{{ '\\x1b]0;x\\x07' }}",
)


def template(trial: Trial) -> str:
    """A chat template that is a bomb or reaches for Python, alone or around a sound one."""
    draw = trial.draw
    if draw.random() < 0.68:
        name = draw.choice(sorted(BOMBS))
        out = draw.choice((("{{ ", " }}"), ("{% set ignored = ", " %}"), ("{% if ", " %}{% endif %}")))
        text = close_output(BOMBS[name], *out).replace("NUMBER", str(draw.choice((9, 18, 22, 30, 60, 400, 50_000))))
    else:
        name = text = draw.choice(INJECTIONS)
        text = text.replace("ESC", repr(ESCAPE))
    form = draw.choice((0, 1, 2))
    text = (text, HEAD + text + TAIL, text + HEAD + TAIL)[form]
    place = draw.choice(("tokenizer_config.json", "chat_template.jinja", "tunesmith.json"))
    if place == "chat_template.jinja":
        (trial.model / place).write_text(text)
    elif place == "tokenizer_config.json":
        found = text if draw.random() < 0.8 else [{"name": "default", "template": text}]
        change_json(trial.model / place, chat_template=found)
    else:
        tokens = json.dumps({"eos_token": "</s>", "controls": ["</s>"]})
        options = {"template": text, "tokens": tokens}
        change_json(trial.model / place, format="tokenizer", options=options)
    if place != "tunesmith.json":
        (trial.model / "tunesmith.json").unlink()
    return f"template in {place}, form {form}: {name}"


def close_output(text: str, before: str, after: str) -> str:
    """Replace OUT(...) by a statement with the expression."""
    while (start := text.find("OUT(")) >= 0:
        depth, end = 1, start + 4
        while depth:
            depth += {"(": 1, ")": -1}.get(text[end], 0)
            end += 1
        text = text[:start] + before + text[start + 4 : end - 1] + after + text[end:]
    return text
