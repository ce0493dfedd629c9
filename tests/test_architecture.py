"""Rules of the architecture, checked on the source code. Every rule is also tested on planted code that breaks it."""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache

import pytest

from tests.conftest import REPOSITORY

# From the bottom up. Packages on one line are siblings and do not import each other.
LAYERS = (
    ("errors",),
    ("files",),
    ("memory", "launch"),
    ("draws",),
    ("recipe",),
    ("text",),
    ("batch",),
    ("data", "model", "objectives"),
    ("world",),
    ("verify",),
    ("generate",),
    ("train", "evaluate", "report"),
    ("benchmark",),
    ("compose",),
    ("apps",),
    ("publish",),
    ("serve",),
    ("playground",),
    ("cli",),
    ("__main__",),
)
# The same inside the large packages: their sub-packages and top-level modules, from the bottom up.
INNER_LAYERS = {
    "text": (("tree", "visible"), ("targets",), ("tokenizer",), ("formats",), ("tokens",)),
    "data": (("sources",), ("readers",), ("dataset",)),
    "train": (
        ("tensors", "failures"),
        ("optim", "processes"),
        ("steps",),
        ("loop",),
        ("prefetch", "probe", "rollout", "run"),
    ),
    "compose": (
        ("progress", "software"),
        ("components",),
        ("models",),
        (
            "run_page_content",
            "proof",
            "manifest",
            "export_records",
            "process",
            "best",
            "reply_evaluation",
            "plan_checks",
        ),
        ("run_page",),
        ("methods",),
        ("sizing",),
        ("run_export", "run_start", "run_journal", "preparation"),
        ("check", "train", "draft"),
    ),
    "publish": (("card",), ("hub",)),
    "serve": (("refusals", "log_entry", "conversations"), ("engine",), ("openai",), ("chat", "page"), ("app",)),
}
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
INNER_LEVEL = {
    (package, name): level
    for package, layers in INNER_LAYERS.items()
    for level, names in enumerate(layers)
    for name in names
}

# Packages that do not import torch and transformers, so that help and validation start at once.
LIGHT_PACKAGES = ("errors", "files", "memory", "launch", "draws", "recipe", "text", "data")
LIGHT_MODULES = (
    "tunesmith.cli.main",
    "tunesmith.cli.lazy",
    "tunesmith.cli.recipes",
    "tunesmith.cli.start_checks",
    "tunesmith.cli.train",
    "tunesmith.benchmark.task_files",
    "tunesmith.generate.model_formats",
    "tunesmith.serve.app.place",
)
HEAVY = ("torch", "transformers")

# Only these packages are imported inside functions: those of the optional extras, and those that take long to import.
OPTIONAL_PACKAGES = (
    *("bitsandbytes", "datasets", "datasketch", "gguf", "nltk", "openpyxl", "tensorboard", "torch.utils.tensorboard"),
    *("vllm", "wandb"),
)

VAGUE_NAMES = re.compile(r"(^|_)(utils?|helpers?|commons?|misc|stuff|managers?)(_|$)")
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
LOADING = (
    *("tunesmith.model.load", "tunesmith.model.load_rows"),
    *("tunesmith.model.exported_config", "tunesmith.model.stock_tokenizer"),
)
# The first two check the directory before; the others read what they have written themselves.
LOADERS = ("from_pretrained", "get_config_dict")
LONGEST_FILE = 400
LONGEST_FUNCTION = 60

Sources = Mapping[str, str]
Check = Callable[[Sources], Iterator[str]]


@cache
def parse(text: str) -> ast.Module:
    """The syntax tree of a module; every rule reads all modules."""
    return ast.parse(text)


def read_sources() -> dict[str, str]:
    """Module name -> source code, for the whole package."""
    found = {}
    for path in sorted((REPOSITORY / "tunesmith").rglob("*.py")):
        parts = path.relative_to(REPOSITORY).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text(encoding="utf-8")
    return found


def package_of(module: str) -> str:
    """``tunesmith.text.tree`` -> ``text``; the empty string for ``tunesmith`` itself."""
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
        for target, line in imported(parse(text), sources):
            if target.startswith("."):
                yield f"{module}:{line} relative import {target}"
            if not target.startswith("tunesmith.") or not package_of(module):
                continue
            if package_of(target) == package_of(module):
                yield from (f"{module}:{line} {fault}" for fault in _inner_fault(module, target))
                continue
            if package_of(module) not in LEVEL or package_of(target) not in LEVEL:
                yield f"{module}:{line} {target}: this package has no layer; add it to LAYERS"
            elif LEVEL[package_of(target)] >= LEVEL[package_of(module)]:
                yield f"{module}:{line} imports {target}, which is not below it"


def _inner_fault(module: str, target: str) -> Iterator[str]:
    """The fault of an import inside a package with inner layers, if there is one."""
    package = package_of(module)
    if package not in INNER_LAYERS or module == f"tunesmith.{package}" or target == f"tunesmith.{package}":
        return
    own, other = module.split(".")[2], target.split(".")[2]
    levels = [INNER_LEVEL.get((package, name)) for name in (own, other)]
    if None in levels:
        yield f"{target}: {own} or {other} has no layer in {package}; add it to INNER_LAYERS"
    elif own != other and levels[1] >= levels[0]:  # type: ignore[operator]
        yield f"imports {target}, which is not below it"


def imports_have_no_cycle(sources: Sources) -> Iterator[str]:
    graph = {module: {target for target, _ in imported(parse(text), sources)} for module, text in sources.items()}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        yield " -> ".join(error.args[1])


def imports_are_at_the_top(sources: Sources) -> Iterator[str]:
    for module, text in sources.items():
        for function in ast.walk(parse(text)):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
                for target, line in imported(function, sources):
                    if not any(target == name or target.startswith(f"{name}.") for name in OPTIONAL_PACKAGES):
                        yield f"{module}:{line} imports {target} inside {getattr(function, 'name', 'lambda')}"


def names_are_specific(sources: Sources) -> Iterator[str]:
    for module, text in sources.items():
        yield from (f"{module}: {part}" for part in module.split(".") if VAGUE_NAMES.search(part))
        for node in ast.walk(parse(text)):
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", node.name).lower()
                if VAGUE_NAMES.search(words):
                    yield f"{module}:{node.lineno} {node.name}"


def input_is_never_executed(sources: Sources) -> Iterator[str]:
    for module, text in sources.items():
        tree = parse(text)
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


def models_enter_through_one_function(sources: Sources) -> Iterator[str]:
    for module, text in sources.items():
        for node in ast.walk(parse(text)):
            if isinstance(node, ast.Attribute) and node.attr in LOADERS and module not in LOADING:
                only = f"only {LOADING[0]} does, after the check of the directory"
                yield f"{module}:{node.lineno} uses {node.attr}; {only}"


def no_globals_and_no_imports_by_name(sources: Sources) -> Iterator[str]:
    for module, text in sources.items():
        for node in ast.walk(parse(text)):
            if isinstance(node, ast.Global):
                yield f"{module}:{node.lineno} global {', '.join(node.names)}"
            if isinstance(node, ast.Attribute) and node.attr == "import_module" and module != "tunesmith.cli.lazy":
                yield f"{module}:{node.lineno} imports by name; only tunesmith.cli.lazy does"
            if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
                yield f"{module}:{node.lineno} imports *"


def files_and_functions_are_short(sources: Sources) -> Iterator[str]:
    for module, text in sources.items():
        lines = text.count("\n")
        if lines > LONGEST_FILE:
            yield f"{module}: {lines} lines"
        for node in ast.walk(parse(text)):
            if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno >= LONGEST_FUNCTION:
                yield f"{module}:{node.lineno} {node.name} has {(node.end_lineno or 0) - node.lineno + 1} lines"


def modules_have_docstrings(sources: Sources) -> Iterator[str]:
    for module, text in sources.items():
        if not ast.get_docstring(parse(text)):
            yield f"{module}: no docstring"


def packages_state_their_purpose_in_one_line(sources: Sources) -> Iterator[str]:
    packages = {module.rpartition(".")[0] for module in sources} & set(sources)
    for module in sorted(packages):
        purpose = ast.get_docstring(ast.parse(sources[module])) or ""
        if "\n" in purpose or not purpose.endswith("."):
            yield f"{module}: the docstring of __init__.py is not one sentence on one line"


def light_packages_import_nothing_heavy(sources: Sources) -> Iterator[str]:
    for module, text in sources.items():
        if package_of(module) in LIGHT_PACKAGES or module in LIGHT_MODULES:
            for target, line in imported(parse(text), sources):
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
        {"tunesmith.unknown.x": "from tunesmith.text import tree"},
    ),
    imports_have_no_cycle: (
        {"tunesmith.text.x": "import tunesmith.text.y", "tunesmith.text.y": "from tunesmith.text import x"},
        {f"tunesmith.text.{a}": f"from tunesmith.text.{b} import f" for a, b in ("xy", "yz", "zx")},
    ),
    imports_are_at_the_top: (
        {"tunesmith.text.x": "def f():\n    import json"},
        {"tunesmith.text.x": "class C:\n    def f(self):\n        from torch.utils import data"},
    ),
    names_are_specific: (
        {"tunesmith.text.utils": ""},
        {"tunesmith.text.data_helpers": ""},
        {"tunesmith.text.x": "class CheckpointManager:\n    pass"},
        {"tunesmith.text.x": "def common_things():\n    pass"},
    ),
    input_is_never_executed: (
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
    models_enter_through_one_function: ({"tunesmith.text.x": "AutoConfig.from_pretrained('x')"},),
    no_globals_and_no_imports_by_name: (
        {"tunesmith.text.x": "n = 0\ndef f():\n    global n"},
        {"tunesmith.text.x": "import importlib\nimportlib.import_module('y')"},
        {"tunesmith.text.x": "from json import *"},
    ),
    files_and_functions_are_short: (
        {"tunesmith.text.x": "x = 1\n" * (LONGEST_FILE + 1)},
        {"tunesmith.text.x": "def f():\n" + "    x = 1\n" * LONGEST_FUNCTION},
    ),
    modules_have_docstrings: ({"tunesmith.text.x": "x = 1"}, {"tunesmith.text": ""}),
    packages_state_their_purpose_in_one_line: (
        {"tunesmith.text": "", "tunesmith.text.x": ""},
        {"tunesmith.text": '"""Text"""', "tunesmith.text.x": ""},
        {"tunesmith.text": '"""Text.\n\nAnd more."""', "tunesmith.text.x": ""},
    ),
    light_packages_import_nothing_heavy: (
        {"tunesmith.text.x": "import torch"},
        {"tunesmith.recipe.x": "from transformers import AutoTokenizer"},
        {"tunesmith.cli.main": "import torch.nn.functional as F"},
    ),
}
PLANTED = [(check, planted) for check, broken in CHECKS.items() for planted in broken]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_package_follows_the_rule(check: Check) -> None:
    faults = list(check(read_sources()))
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(("check", "planted"), PLANTED, ids=lambda value: getattr(value, "__name__", ""))
def test_code_that_breaks_the_rule_is_found(check: Check, planted: dict[str, str]) -> None:
    assert list(check(planted))


def test_code_that_the_rules_allow_is_not_reported() -> None:
    allowed = {
        "tunesmith.model": '"""Models."""\n',
        "tunesmith.model.x": '"""Doc."""\nimport torch\n\n\ndef f(m, pattern):\n    m.eval()\n    pattern.compile()\n',
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
    light = [module for module in read_sources() if package_of(module) in LIGHT_PACKAGES or module in LIGHT_MODULES]
    assert len(light) > 20
    assert loaded(light, HEAVY) == []


def test_a_heavy_import_would_be_found() -> None:
    assert loaded(["tunesmith.errors"], ("pathlib", "torch")) == ["pathlib"]
