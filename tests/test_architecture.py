"""The rules of the house, checked on the source itself. Every rule is also seen to fail on a planted breach."""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping

import pytest

from tests.conftest import REPOSITORY

# From the bottom up; packages on one line are siblings and do not import each other.
LAYERS = (
    ("errors",),
    ("files",),
    ("memory",),
    ("draws",),
    ("recipe",),
    ("text",),
    ("batch",),
    ("data", "model", "objectives"),
    ("verify",),
    ("generate",),
    ("train", "evaluate", "report"),
    ("compose",),
    ("apps", "playground"),
    ("cli",),
)
# The same inside the large packages: sub-packages and top-level modules, from the bottom up.
INNER_LAYERS = {
    "text": (("tree", "visible"), ("targets",), ("tokenizer",), ("formats",), ("tokens",)),
    "data": (("sources",), ("readers",), ("dataset",)),
    "train": (("tensors", "world"), ("optim",), ("steps",), ("loop",), ("rollout", "run")),
    "compose": (
        ("progress",),
        ("purposes", "scores"),
        ("parts",),
        ("models",),
        ("proof", "manifest", "best", "reply_evaluation"),
        ("methods",),
        ("check", "train"),
    ),
}
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
INNER_LEVEL = {
    (package, name): level
    for package, layers in INNER_LAYERS.items()
    for level, names in enumerate(layers)
    for name in names
}

# Rooms that load without torch and transformers, so that help and validation are instant.
LIGHT_ROOMS = ("errors", "files", "memory", "draws", "recipe", "text", "data")
LIGHT_MODULES = ("tunesmith.cli.main", "tunesmith.cli.lazy", "tunesmith.cli.recipes")
HEAVY = ("torch", "transformers")

# The only packages that are imported where they are used: those of the optional extras, and datasketch, which loads scipy.
OPTIONAL_PACKAGES = ("datasets", "datasketch", "tensorboard", "torch.utils.tensorboard", "wandb")

EMPTY_NAMES = re.compile(r"(^|_)(utils?|helpers?|commons?|misc|stuff|managers?)(_|$)")
PICKLING = ("pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve")
CALLS = ("eval", "exec", "compile", "__import__")
ATTRIBUTES = (
    "torch.load",
    "torch.save",
    "yaml.load",
    "yaml.load_all",
    "yaml.unsafe_load",
    "yaml.full_load",
    "os.system",
)
KEYWORDS = ("trust_remote_code", "allow_pickle", "weights_only")
LONGEST_FILE = 400
LONGEST_FUNCTION = 60

Sources = Mapping[str, str]
Check = Callable[[Sources], Iterator[str]]


def house() -> dict[str, str]:
    """Module name -> source of the whole package."""
    found = {}
    for path in sorted((REPOSITORY / "tunesmith").rglob("*.py")):
        parts = path.relative_to(REPOSITORY).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text(encoding="utf-8")
    return found


def room(module: str) -> str:
    """``tunesmith.text.tree`` -> ``text``; the package itself is the room of nobody."""
    return module.split(".")[1] if "." in module else ""


def imported(tree: ast.AST, known: Sources) -> Iterator[tuple[str, int]]:
    """(module, line) of everything imported anywhere in a tree; ``from a import b`` is ``a.b`` if that is a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            for alias in node.names:
                yield (f"{base}.{alias.name}" if f"{base}.{alias.name}" in known else base), node.lineno


def imports_go_down(sources: Sources) -> Iterator[str]:
    for module, text in sources.items():
        for target, line in imported(ast.parse(text), sources):
            if target.startswith("."):
                yield f"{module}:{line} relative import {target}"
            if not target.startswith("tunesmith.") or not room(module):
                continue
            if room(target) == room(module):
                yield from (f"{module}:{line} {fault}" for fault in _inner_fault(module, target))
                continue
            if room(module) not in LEVEL or room(target) not in LEVEL:
                yield f"{module}:{line} {target}: this room has no layer; give it one"
            elif LEVEL[room(target)] >= LEVEL[room(module)]:
                yield f"{module}:{line} imports {target}, which is not below it"


def _inner_fault(module: str, target: str) -> Iterator[str]:
    """What is wrong with an import inside one package that has inner layers."""
    package = room(module)
    if package not in INNER_LAYERS or module == f"tunesmith.{package}" or target == f"tunesmith.{package}":
        return
    own, other = module.split(".")[2], target.split(".")[2]
    levels = [INNER_LEVEL.get((package, name)) for name in (own, other)]
    if None in levels:
        yield f"{target}: {own} or {other} has no layer in {package}; give it one"
    elif own != other and levels[1] >= levels[0]:  # type: ignore[operator]
        yield f"imports {target}, which is not below it"


def imports_make_no_circle(sources: Sources) -> Iterator[str]:
    graph = {module: {target for target, _ in imported(ast.parse(text), sources)} for module, text in sources.items()}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        yield " -> ".join(error.args[1])


def imports_stand_at_the_top(sources: Sources) -> Iterator[str]:
    for module, text in sources.items():
        for function in ast.walk(ast.parse(text)):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
                for target, line in imported(function, sources):
                    if not any(target == name or target.startswith(f"{name}.") for name in OPTIONAL_PACKAGES):
                        yield f"{module}:{line} imports {target} inside {getattr(function, 'name', 'lambda')}"


def names_say_something(sources: Sources) -> Iterator[str]:
    for module, text in sources.items():
        yield from (f"{module}: {part}" for part in module.split(".") if EMPTY_NAMES.search(part))
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", node.name).lower()
                if EMPTY_NAMES.search(words):
                    yield f"{module}:{node.lineno} {node.name}"


def nothing_runs_what_was_read(sources: Sources) -> Iterator[str]:
    for module, text in sources.items():
        tree = ast.parse(text)
        for target, line in imported(tree, sources):
            if target.split(".")[0] in PICKLING:
                yield f"{module}:{line} imports {target}"
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CALLS:
                yield f"{module}:{node.lineno} calls {node.func.id}"
            if isinstance(node, ast.Attribute) and ast.unparse(node) in ATTRIBUTES:
                yield f"{module}:{node.lineno} uses {ast.unparse(node)}"
            if isinstance(node, ast.keyword) and node.arg in KEYWORDS:
                yield f"{module}:{node.value.lineno} passes {node.arg}"
            if isinstance(node, ast.Constant) and node.value in KEYWORDS:
                yield f"{module}:{node.lineno} names {node.value}"


def nothing_is_global_or_imported_by_name(sources: Sources) -> Iterator[str]:
    for module, text in sources.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Global):
                yield f"{module}:{node.lineno} global {', '.join(node.names)}"
            if isinstance(node, ast.Attribute) and node.attr == "import_module" and module != "tunesmith.cli.lazy":
                yield f"{module}:{node.lineno} imports by name; only tunesmith.cli.lazy does"
            if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
                yield f"{module}:{node.lineno} imports *"


def files_and_functions_can_be_read(sources: Sources) -> Iterator[str]:
    for module, text in sources.items():
        lines = text.count("\n")
        if lines > LONGEST_FILE:
            yield f"{module}: {lines} lines"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno >= LONGEST_FUNCTION:
                yield f"{module}:{node.lineno} {node.name} has {(node.end_lineno or 0) - node.lineno + 1} lines"


def modules_say_what_they_are_for(sources: Sources) -> Iterator[str]:
    for module, text in sources.items():
        if text.strip() and not ast.get_docstring(ast.parse(text)):
            yield f"{module}: no docstring"


def light_rooms_import_nothing_heavy(sources: Sources) -> Iterator[str]:
    for module, text in sources.items():
        if room(module) in LIGHT_ROOMS or module in LIGHT_MODULES:
            for target, line in imported(ast.parse(text), sources):
                if target.split(".")[0] in HEAVY:
                    yield f"{module}:{line} imports {target}"


CHECKS: dict[Check, tuple[dict[str, str], ...]] = {
    imports_go_down: (
        {"tunesmith.text.x": "import tunesmith.data.y"},
        {"tunesmith.text.tokenizer.x": "import tunesmith.text.formats.y"},
        {"tunesmith.data.sources.x": "from tunesmith.data.readers import y", "tunesmith.data.readers.y": ""},
        {"tunesmith.data.elsewhere.x": "from tunesmith.data.readers import y", "tunesmith.data.readers.y": ""},
        {"tunesmith.data.x": "from tunesmith.model import y"},
        {"tunesmith.recipe.x": "def f():\n    from tunesmith.cli.main import main"},
        {"tunesmith.text.x": "from . import tree"},
        {"tunesmith.attic.x": "from tunesmith.text import tree"},
    ),
    imports_make_no_circle: (
        {"tunesmith.text.x": "import tunesmith.text.y", "tunesmith.text.y": "from tunesmith.text import x"},
        {f"tunesmith.text.{a}": f"from tunesmith.text.{b} import f" for a, b in ("xy", "yz", "zx")},
    ),
    imports_stand_at_the_top: (
        {"tunesmith.text.x": "def f():\n    import json"},
        {"tunesmith.text.x": "class C:\n    def f(self):\n        from torch.utils import data"},
    ),
    names_say_something: (
        {"tunesmith.text.utils": ""},
        {"tunesmith.text.data_helpers": ""},
        {"tunesmith.text.x": "class CheckpointManager:\n    pass"},
        {"tunesmith.text.x": "def common_things():\n    pass"},
    ),
    nothing_runs_what_was_read: (
        {"tunesmith.text.x": "import pickle"},
        {"tunesmith.text.x": "from joblib import load"},
        {"tunesmith.text.x": "eval('1')"},
        {"tunesmith.text.x": "def f(text):\n    exec(text)"},
        {"tunesmith.text.x": "import torch\ntorch.load('x')"},
        {"tunesmith.text.x": "import yaml\nyaml.load('x', yaml.Loader)"},
        {"tunesmith.text.x": "from_pretrained('x', trust_remote_code=True)"},
        {"tunesmith.text.x": "settings = {'trust_remote_code': True}"},
        {"tunesmith.text.x": "load('x', allow_pickle=True)"},
    ),
    nothing_is_global_or_imported_by_name: (
        {"tunesmith.text.x": "n = 0\ndef f():\n    global n"},
        {"tunesmith.text.x": "import importlib\nimportlib.import_module('y')"},
        {"tunesmith.text.x": "from json import *"},
    ),
    files_and_functions_can_be_read: (
        {"tunesmith.text.x": "x = 1\n" * (LONGEST_FILE + 1)},
        {"tunesmith.text.x": "def f():\n" + "    x = 1\n" * LONGEST_FUNCTION},
    ),
    modules_say_what_they_are_for: ({"tunesmith.text.x": "x = 1"},),
    light_rooms_import_nothing_heavy: (
        {"tunesmith.text.x": "import torch"},
        {"tunesmith.recipe.x": "from transformers import AutoTokenizer"},
        {"tunesmith.cli.main": "import torch.nn.functional as F"},
    ),
}
PLANTED = [(check, planted) for check, breaches in CHECKS.items() for planted in breaches]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_house_keeps_the_rule(check: Check) -> None:
    assert list(check(house())) == []


@pytest.mark.parametrize(("check", "planted"), PLANTED, ids=lambda value: getattr(value, "__name__", ""))
def test_a_breach_of_the_rule_is_seen(check: Check, planted: dict[str, str]) -> None:
    assert list(check(planted))


def test_what_the_rules_allow_is_not_reported() -> None:
    allowed = {
        "tunesmith.model.x": '"""Doc."""\nimport torch\n\n\ndef f(model, pattern):\n    model.eval()\n    pattern.compile()\n',
        "tunesmith.data.sources.x": '"""Doc."""\nfrom tunesmith.text import tree\n\n\ndef f():\n    import datasets\n',
        "tunesmith.cli.lazy": '"""Doc."""\nimport importlib\n\nimportlib.import_module("x")\n',
    }
    assert [fault for check in CHECKS for fault in check(allowed)] == []


def loaded(modules: list[str], heavy: tuple[str, ...]) -> list[str]:
    """Which of the heavy packages a fresh interpreter has loaded after importing the modules."""
    lines = [
        *(f"import {module}" for module in modules),
        "import sys",
        f"print([n for n in {heavy!r} if n in sys.modules])",
    ]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, cwd=REPOSITORY, check=True
    )
    return list(ast.literal_eval(done.stdout))


def test_importing_every_light_module_loads_nothing_heavy() -> None:
    light = [module for module in house() if room(module) in LIGHT_ROOMS or module in LIGHT_MODULES]
    assert len(light) > 20
    assert loaded(light, HEAVY) == []


def test_something_heavy_would_be_seen() -> None:
    assert loaded(["tunesmith.errors"], ("pathlib", "torch")) == ["pathlib"]
