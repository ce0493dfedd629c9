"""Excel workbooks for tests: written by openpyxl, or with changes to their parts that no writer makes."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import openpyxl

SHEET, TYPES = "xl/worksheets/sheet1.xml", "[Content_Types].xml"
NAMESPACE = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
INLINE = re.compile(r'<c r="(\w+)" t="inlineStr"><is><t[^>]*>([^<]*)</t></is></c>')
SHARED_TYPE = (
    '<Override PartName="/xl/sharedStrings.xml" ContentType="application/'
    'vnd.openxmlformats-officedocument.spreadsheetml.sharedStrings+xml"/>'
)


def write_workbook(path: Path, sheets: Mapping[str, Sequence[Sequence[Any]]]) -> Path:
    """A workbook with the rows of every sheet."""
    workbook = openpyxl.Workbook()
    workbook.remove(workbook.active)
    for name, rows in sheets.items():
        sheet = workbook.create_sheet(name)
        for row in rows:
            sheet.append(list(row))
    workbook.save(path)
    return path


def change_part(path: Path, name: str, change: Callable[[str], str]) -> Path:
    """Rewrite one file inside a workbook."""
    held = io.BytesIO()
    with zipfile.ZipFile(path) as before, zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as after:
        for entry in before.infolist():
            content = before.read(entry)
            after.writestr(entry, change(content.decode()).encode() if entry.filename == name else content)
        assert name in before.namelist()
    path.write_bytes(held.getvalue())
    return path


def share_texts(path: Path) -> Path:
    """Write the texts of the first sheet as Excel does: once, in a separate part, with runs and readings of a text."""
    texts: list[str] = []

    def replace(found: re.Match[str]) -> str:
        texts.append(found[2])
        return f'<c r="{found[1]}" t="s"><v>{len(texts) - 1}</v></c>'

    change_part(path, SHEET, lambda text: INLINE.sub(replace, text))
    change_part(path, TYPES, lambda text: text.replace("</Types>", f"{SHARED_TYPE}</Types>"))
    items = "".join(
        f'<si><r><t xml:space="preserve">{text[:1]}</t></r><r><rPr><b/></rPr><t xml:space="preserve">{text[1:]}</t></r>'
        '<rPh sb="0" eb="1"><t>reading</t></rPh></si>'
        for text in texts
    )
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("xl/sharedStrings.xml", f'<sst xmlns="{NAMESPACE}">{items}</sst>')
    return path
