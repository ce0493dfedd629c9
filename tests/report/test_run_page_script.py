"""What the page of a run keeps when it loads itself again, run by Node.js where it is installed."""

from __future__ import annotations

import json
import shutil
import subprocess
from importlib.resources import files
from typing import Any

import pytest

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="Node.js is not installed")

BROWSER = """
const stored = new Map();
const storage = { getItem: (key) => stored.get(key) ?? null, setItem: (key, value) => stored.set(key, value) };
Object.defineProperty(globalThis, "sessionStorage", { get() {
  if (given.sandboxed) throw new Error("SecurityError");
  return storage;
} });
globalThis.location = { pathname: "/runs/a/index.html", hash: given.hash ?? "", replace(to) { this.hash = to; } };
"""


def run(expression: str, **given: Any) -> Any:
    """The value of an expression in the scope of the part of the script that keeps values."""
    script = files("tunesmith.report").joinpath("run_page.js").read_text().split("function drawCharts")[0]
    program = f"const given = {json.dumps(given)};{BROWSER}{script}\nconsole.log(JSON.stringify({expression}));"
    done = subprocess.run([str(NODE), "-"], input=program, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("sandboxed", [False, True])
def test_what_was_unfolded_is_kept_with_and_without_storage(sandboxed: bool) -> None:
    write = "writeKept({ scroll: 3, open: ['a#%&'] }), writeKept({ follow: false })"
    kept, fragment, stored = run(f"({write}, [readKept(), location.hash, stored.size])", sandboxed=sandboxed)
    assert kept == {"scroll": 3, "open": ["a#%&"], "follow": False}
    assert (bool(fragment), stored) == ((True, 0) if sandboxed else (False, 1))
    assert run("readKept()", sandboxed=True, hash=fragment) == (kept if sandboxed else {})


@pytest.mark.parametrize("fragment", ["#values", "#kept=", "#kept=%", "#kept=5", "#kept=null", "#kept=%7B", ""])
def test_any_other_fragment_keeps_nothing(fragment: str) -> None:
    assert run("readKept()", sandboxed=True, hash=fragment) == {}
    assert run("readKept()", sandboxed=False, hash=fragment) == {}
