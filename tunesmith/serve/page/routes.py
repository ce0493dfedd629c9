"""The routes of the pages: the chat with its files, and the list of runs with theirs."""

from __future__ import annotations

import asyncio
from functools import cache
from importlib.resources import files
from pathlib import Path

from fastapi import APIRouter, Request, Response

from tunesmith.errors import TunesmithError
from tunesmith.report.page import package_text, page_style, page_template
from tunesmith.serve.page.runs import ListedPage, find_page, list_pages
from tunesmith.serve.refusals import RefusedRequest

PACKAGE = "tunesmith.serve.page"
STYLE_SHEET = "/page/style.css"
TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
HTML = "text/html; charset=utf-8"

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
"""For our pages: scripts and styles are files of the package, and nothing else is loaded or asked."""

FILE_POLICY = (
    "sandbox allow-scripts allow-downloads allow-popups; default-src 'none'; script-src 'unsafe-inline'; "
    "style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""For pages from the directory of runs, which anybody may have written: they have no access to the server."""


def page_router(runs: Path | None) -> APIRouter:
    """The routes of the pages. runs: the directory whose runs are listed; None for none."""
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    async def chat() -> Response:
        return _page(chat_page())

    @router.get("/page/{name}")
    async def file(name: str) -> Response:
        kind = TYPES.get(Path(name).suffix)
        if name not in page_files() or kind is None:
            raise _nothing()
        return Response(page_files()[name], media_type=kind, headers={"Content-Security-Policy": PAGE_POLICY})

    @router.get("/runs")
    async def list_runs() -> Response:
        found = await asyncio.to_thread(list_pages, runs) if runs is not None else []
        return _page(runs_page(found, runs))

    @router.get("/runs/{path:path}")
    async def page(request: Request, path: str) -> Response:
        found = await asyncio.to_thread(_read_page, runs, path) if runs is not None else None
        if found is None:
            raise _nothing()
        return Response(found, media_type=HTML, headers={"Content-Security-Policy": FILE_POLICY})

    return router


@cache
def page_files() -> dict[str, bytes]:
    """The files of the pages by name: the scripts, and one style sheet."""
    names = [entry.name for entry in files(PACKAGE).iterdir() if entry.name.endswith((".js", ".svg"))]
    style = page_style("tokens.css") + package_text("chat.css", PACKAGE)
    texts = {name: package_text(name, PACKAGE) for name in names} | {Path(STYLE_SHEET).name: style}
    return {name: text.encode() for name, text in texts.items()}


@cache
def chat_page() -> str:
    """The chat page as HTML."""
    return page_template("chat.html", PACKAGE).render(sheets=[STYLE_SHEET])


def runs_page(found: list[ListedPage], directory: Path | None) -> str:
    """The list of runs as HTML."""
    where = str(directory) if directory is not None else ""
    return page_template("runs.html", PACKAGE).render(sheets=[STYLE_SHEET], pages=found, directory=where)


def _read_page(runs: Path, path: str) -> bytes | None:
    try:
        found = find_page(runs, path)
        return found.read_bytes() if found is not None else None
    except (OSError, TunesmithError):
        return None


def _page(text: str) -> Response:
    return Response(text, media_type=HTML, headers={"Content-Security-Policy": PAGE_POLICY})


def _nothing() -> RefusedRequest:
    return RefusedRequest(404, "There is nothing at this URL.", code="not_found")
