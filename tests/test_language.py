"""Rules for the text of the repository: banned words, one meaning for each class name, sizes of files and lines.

Every rule is also tested on planted text that breaks it.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping

import pytest

from tests.conftest import REPOSITORY
from tests.test_architecture import LONGEST_FILE

BANNED: Mapping[str, str] = {
    **dict.fromkeys(("tell", "tells", "told", "telling"), "report, print, log, inform, message"),
    **dict.fromkeys(("mend", "mends", "mended", "mending"), "fix, correct"),
    **dict.fromkeys(("beside", "besides"), "next to, in addition to, auxiliary"),
    **dict.fromkeys(("stand", "stands", "stood"), "be, lie, belong, occur"),
    **dict.fromkeys(("foretell", "foretells", "foretold"), "predict, hint, known before"),
    **dict.fromkeys(("house", "room", "rooms", "lodger"), "repository, package, module, space"),
    **dict.fromkeys(("of its own", "of their own"), "separate"),
    **dict.fromkeys(("licence", "licences"), "license, as the key of the hub"),
    "anew": "again, recomputed, for each epoch",
    "trunk": "backbone",
    "turned away": "filtered, rejected",
    "found out": "detected, reward hacking",
}
"""Private metaphors and fragments -> the ordinary words to use instead."""

TRAINING_TEXTS = (
    "tunesmith/playground/facts.yaml",
    "tunesmith/playground/scenes.yaml",
)
"""Data of the demo: every word in them decides the texts that are trained on, and so the results."""

FOREIGN_TEXTS = ("tunesmith/report/uplot/uPlot.iife.min.js", "tunesmith/report/uplot/uPlot.min.css")
"""Files that others have published and that are distributed unchanged; `tests/report/test_run_page.py` has digests."""

ALLOWED: Mapping[str, tuple[str, ...]] = {
    "CHANGELOG.md": ("foretell_next_role", "foretell_line_break", "`beside`"),  # names of earlier versions
    "tunesmith/data/sources/directories.py": ("license|licence",),  # names of files of others
}
"""File -> exact text that may hold a banned word."""

ALLOWED_TWICE: Mapping[str, str] = {}
"""Class name -> why two classes have it."""

DOCUMENTS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "Makefile", "pyproject.toml")
LONGEST_LINE = 120

Texts = Mapping[str, str]


def read_texts(*patterns: str) -> dict[str, str]:
    """The files of the repository that match one of the patterns: path relative to the root -> content."""
    paths = sorted({path for pattern in patterns for path in REPOSITORY.glob(pattern)})
    found = {str(path.relative_to(REPOSITORY)): path for path in paths}
    return {name: path.read_text(encoding="utf-8") for name, path in found.items() if name not in FOREIGN_TEXTS}


def phrase_pattern(phrase: str) -> str:
    """A phrase may be broken over lines of a comment or between two string literals."""
    return r"[\s#\"']+".join(phrase.split())


BANNED_PATTERN = re.compile(rf"(?<![a-z])(?:{'|'.join(map(phrase_pattern, BANNED))})(?![a-z])", re.IGNORECASE)


def find_banned_words(texts: Texts) -> Iterator[str]:
    """Banned words in code, comments, strings and prose; identifiers are split at ``_`` and at capitals."""
    for path, text in texts.items():
        for allowed in ALLOWED.get(path, ()):
            text = text.replace(allowed, "")
        text = re.sub(r"\\[nrt]", "  ", text)
        text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|_", " ", text)
        for match in BANNED_PATTERN.finditer(text):
            word = " ".join(re.sub(r"[#\"']", " ", match.group()).split()).lower()
            yield f"{path}:{text.count(chr(10), 0, match.start()) + 1} {word!r} (use: {BANNED[word]})"


def find_repeated_classes(texts: Texts) -> Iterator[str]:
    """Class names that are defined more than once."""
    places: defaultdict[str, list[str]] = defaultdict(list)
    for path, text in texts.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(f"{path}:{node.lineno}")
    for name, found in sorted(places.items()):
        if len(found) > 1 and name not in ALLOWED_TWICE:
            yield f"class {name}: {', '.join(found)}"


def find_long_files(texts: Texts) -> Iterator[str]:
    """Files with more lines than a reader can survey."""
    for path, text in texts.items():
        lines = text.count("\n")
        if lines > LONGEST_FILE:
            yield f"{path}: {lines} lines"


def find_long_lines(texts: Texts) -> Iterator[str]:
    """Lines that do not fit; tables and code blocks of Markdown, HTML and lines with an address are not broken."""
    for path, text in texts.items():
        if path.endswith(".html"):
            continue
        in_code = False
        for number, line in enumerate(text.splitlines(), 1):
            if path.endswith(".md"):
                in_code ^= line.startswith("```")
                if in_code or line.startswith(("|", "    ")):
                    continue
            if len(line) > LONGEST_LINE and "://" not in line:
                yield f"{path}:{number} {len(line)} characters"


def without_training_texts(texts: Texts) -> dict[str, str]:
    return {path: text for path, text in texts.items() if path not in TRAINING_TEXTS}


CODE = ("tunesmith/**/*.py", "tests/**/*.py", "benchmarks/**/*.py")
PAGES = ("tunesmith/**/*.html", "tunesmith/**/*.js", "tunesmith/**/*.css")
PROSE = ("tunesmith/**/*.py", "tunesmith/**/*.yaml", *PAGES, "docs/**/*.md", *DOCUMENTS)


def test_no_banned_word_is_used() -> None:
    found = list(find_banned_words(without_training_texts(read_texts(*PROSE))))
    assert not found, "\n".join([f"{len(found)} banned words", *found])


def test_no_class_name_is_used_twice() -> None:
    found = list(find_repeated_classes(read_texts("tunesmith/**/*.py")))
    assert not found, "\n".join(found)


def test_no_file_is_too_long() -> None:
    assert list(find_long_files(read_texts(*CODE, *PAGES))) == []


def test_no_line_is_too_long() -> None:
    found = list(find_long_lines(without_training_texts(read_texts(*CODE, *PROSE))))
    assert not found, "\n".join([f"{len(found)} long lines", *found])


def test_what_is_allowed_still_exists() -> None:
    for path, parts in ALLOWED.items():
        text = (REPOSITORY / path).read_text(encoding="utf-8")
        assert [part for part in parts if part not in text] == []
    for path in TRAINING_TEXTS:
        assert list(find_banned_words(read_texts(path))) != [], f"{path} needs no exemption"


@pytest.mark.parametrize("phrase", BANNED)
def test_every_banned_word_is_found(phrase: str) -> None:
    snake, camel = phrase.replace(" ", "_"), phrase.title().replace(" ", "")
    planted = (
        f"# a comment with {phrase} in it",
        f'message = f"{{count}} rows\\n{phrase}"',
        f"def read_{snake}_lines(): ...",
        f"class Packed{camel}Batch: ...",
        f"class HTTP{camel}: ...",
        f"{snake.upper()}_2 = 1",
        "# " + phrase.replace(" ", "\n    # "),
        f'("{phrase.replace(" ", chr(34) + chr(10) + " " + chr(34))}")',
    )
    for text in planted:
        assert list(find_banned_words({"x.py": text})) != [], text


def test_the_line_of_a_banned_word_is_reported() -> None:
    assert list(find_banned_words({"x.py": "one\ntwo\nclassRoom"})) == [
        "x.py:3 'room' (use: repository, package, module, space)"
    ]


@pytest.mark.parametrize(
    "text",
    [
        "a standard deviation that nobody understands",
        "StandardScaler, recommended_amendment, mushroom, storyteller, trunkated",
        "found outside of the tree; what is its own ancestor",
    ],
)
def test_other_words_with_the_same_letters_are_allowed(text: str) -> None:
    assert list(find_banned_words({"x.py": text})) == []


def test_an_allowed_text_is_allowed_in_its_file_only() -> None:
    for path, (part, *_) in ALLOWED.items():
        assert list(find_banned_words({path: part})) == []
        assert list(find_banned_words({path: f"{part} beside"})) != []
        assert list(find_banned_words({"x.py": part})) != []


def test_a_class_name_in_two_files_is_found() -> None:
    planted = {
        "a.py": "class Reply:\n    pass",
        "b.py": "if True:\n    class Reply:\n        pass",
        "c.py": "Reply = int",
    }
    assert list(find_repeated_classes(planted)) == ["class Reply: a.py:1, b.py:2"]


def test_a_long_file_and_a_long_line_are_found() -> None:
    assert list(find_long_files({"x.py": "\n" * (LONGEST_FILE + 1), "y.py": "\n" * LONGEST_FILE})) == [
        "x.py: 401 lines"
    ]
    line = "x" * (LONGEST_LINE + 1)
    planted = {"x.py": f"\n{line}\n", "y.md": f"| {line} |\n```\n{line}\n```\nhttps://{line}\n{line}", "z.py": line[1:]}
    assert list(find_long_lines(planted)) == ["x.py:2 121 characters", "y.md:6 121 characters"]
