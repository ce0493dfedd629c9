"""The pages of the server: their headers, their files, and that no page of the directory of runs reaches the server."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
from pathlib import Path

import httpx
import pytest

from tests.apps.sampled_models import write_causal
from tests.conftest import REPOSITORY
from tests.serve.served import LOG
from tunesmith.report.page import package_text
from tunesmith.serve.app.factory import ServerParts, build_app
from tunesmith.serve.app.settings import ServerSettings
from tunesmith.serve.engine.models import ServedModels
from tunesmith.serve.page.routes import FILE_POLICY, PAGE_POLICY, page_files, page_router
from tunesmith.serve.page.runs import DEPTH, chat_models, find_page, find_pages, list_pages

SCRIPTS = sorted((REPOSITORY / "tunesmith" / "serve" / "page").glob("*.js"))
FORBIDDEN = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|srcdoc|new Function|setHTML")
HTML = "<!doctype html><title>A page</title><script>1</script>"


def get(path: str, runs: Path | None = None) -> httpx.Response:
    """The answer of an application that has the pages only."""
    app = build_app(ServerParts(ServedModels(), ServerSettings(), LOG.append), [page_router(runs)])

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as client:
            return await client.get(path)

    return asyncio.run(ask())


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A run with an export and a page, a comparison next to it, and a secret outside."""
    root = tmp_path / "runs"
    write_causal(root / "one" / "export", "chatml")
    (root / "one" / "recipe.yaml").write_text("name: one\n")
    (root / "one" / "metrics.jsonl").write_text("")
    (root / "one" / "index.html").write_text(HTML)
    (root / "one" / "check.html").write_text(HTML)
    (root / "compared & <b>.html").write_text(HTML)
    (tmp_path / "secret.html").write_text("secret")
    (root / "link.html").symlink_to(tmp_path / "secret.html")
    return root


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_no_script_makes_html_of_text(path: Path) -> None:
    assert FORBIDDEN.findall(path.read_text(encoding="utf-8")) == []


def test_a_script_that_makes_html_would_be_found() -> None:
    assert FORBIDDEN.findall("a.innerHTML = b; eval(x)") == ["innerHTML", "eval"]


def test_the_chat_page_has_a_strict_policy_and_loads_only_its_files() -> None:
    answer = get("/")
    assert answer.headers["content-security-policy"] == PAGE_POLICY
    for part in ("default-src 'none'", "frame-ancestors 'none'", "require-trusted-types-for 'script'"):
        assert part in PAGE_POLICY
    for name, value in {
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "cache-control": "no-store",
    }.items():
        assert answer.headers[name] == value
    loaded = re.findall(r'(?:src|href)="([^"#]+)"', answer.text)
    assert "/page/main.js" in loaded
    for path in loaded:
        if path.startswith("/page/"):
            assert get(path).status_code == 200, path
    assert "<script>" not in answer.text
    assert "style=" not in answer.text


def test_every_module_that_a_script_imports_is_served() -> None:
    for name, content in page_files().items():
        for imported in re.findall(r'from "\./([\w.]+)"', content.decode()):
            assert get(f"/page/{imported}").status_code == 200, (name, imported)
    assert page_files()["style.css"].decode().startswith(package_text("page.css"))


@pytest.mark.parametrize(
    "path", ["/page/routes.py", "/page/../routes.py", "/page/chat.html", "/page/none.js", "/page/"]
)
def test_other_files_of_the_package_are_not_served(path: str) -> None:
    assert get(path).status_code == 404


def test_runs_are_listed_with_their_pages(runs: Path) -> None:
    one, page = list_pages(runs)
    assert (one.name, one.model, one.address) == ("one", "one", "/runs/one/index.html")
    assert one.pages == (("check.html", "/runs/one/check.html"),)
    assert page.run is None
    assert chat_models(runs) == {"one": str(runs / "one")}
    text = get("/runs", runs).text
    assert 'href="/#m/one"' in text
    assert "compared &amp; &lt;b&gt;.html" in text
    for address in re.findall(r'href="(/runs/[^"]+)"', text):
        answer = get(address, runs)
        assert (answer.status_code, answer.text) == (200, HTML), address
        assert answer.headers["content-security-policy"] == FILE_POLICY
        assert FILE_POLICY.startswith("sandbox ")
        assert "allow-same-origin" not in FILE_POLICY


def test_names_that_are_no_text_are_left_out(runs: Path) -> None:
    shutil.copytree(os.fsencode(runs / "one"), os.fsencode(runs) + b"/tw\xff")
    shutil.copy(runs / "one" / "index.html", os.fsencode(runs) + b"/page\xfe.html")
    assert [page.name for page in list_pages(runs)] == ["one", "compared & <b>.html"]
    assert list(chat_models(runs)) == ["one"]
    assert get("/runs", runs).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "../secret.html",
        "link.html",
        "one/recipe.yaml",
        "one/export/config.json",
        "%2e%2e/secret.html",
        "/etc/passwd",
        "",
    ],
)
def test_nothing_else_of_the_directory_is_served(runs: Path, path: str) -> None:
    assert get(f"/runs/{path}", runs).status_code == 404
    assert find_page(runs, path) is None


def test_a_page_is_served_where_the_list_can_have_it(runs: Path) -> None:
    deepest = runs.joinpath(*"abc"[:DEPTH])
    for directory in (deepest, deepest / "deeper", runs / ".hidden"):
        directory.mkdir(parents=True)
        (directory / "page.html").write_text(HTML)
    (runs / "linked").symlink_to(deepest)
    pages = find_pages(runs)
    assert deepest / "page.html" in pages
    for page in runs.rglob("*.html"):
        assert find_page(runs, page.relative_to(runs).as_posix()) == (page if page in pages else None)
    assert find_page(runs, "linked/page.html") is None


def test_without_a_directory_of_runs_the_list_says_what_to_do(tmp_path: Path) -> None:
    assert "tunesmith serve" in get("/runs").text
    assert "tunesmith demo" in get("/runs", tmp_path).text
    shutil.rmtree(tmp_path)
    assert get("/runs", tmp_path).status_code == 200


def test_a_reward_model_cannot_be_chatted_with(runs: Path) -> None:
    description = runs / "one" / "export" / "tunesmith.json"
    description.write_text(json.dumps({**json.loads(description.read_text()), "kind": "reward"}))
    assert chat_models(runs) == {}
