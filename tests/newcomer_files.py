"""Files as people have them: tables, lists, chats, preferences and texts, and some that cannot be trained on."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow
import pyarrow.parquet

COUNT = 40
PAIRS = [(f"What is {number} plus {number}?", f"It is {2 * number}.") for number in range(COUNT)]


class NewcomerFile(NamedTuple):
    """A file or directory and what becomes of it.

    name: of it.
    wrong: whether no recipe can be written for it.
    says: what the message of a wrong one has.
    words: further words of the command.
    """

    name: str
    wrong: bool = False
    says: Sequence[str] = ()
    words: Sequence[str] = ()

    @property
    def recipe(self) -> str:
        """The name of its recipe."""
        words = [self.name, *(word for word in self.words if not word.startswith("runs/"))]
        return "-".join("".join(letter if letter.isalnum() else "-" for letter in word).strip("-") for word in words)


FILES: Sequence[NewcomerFile] = (
    NewcomerFile("faq.csv"),
    NewcomerFile("alpaca.tsv"),
    NewcomerFile("faq.xlsx"),
    NewcomerFile("alpaca.jsonl"),
    NewcomerFile("dolly.jsonl"),
    NewcomerFile("messages.jsonl"),
    NewcomerFile("sharegpt.json"),
    NewcomerFile("completions.jsonl"),
    NewcomerFile("key.json"),
    NewcomerFile("faq.parquet"),
    NewcomerFile("saved"),
    NewcomerFile("folder"),
    NewcomerFile("stories.txt"),
    NewcomerFile("chats.jsonl.gz"),
    NewcomerFile("pairs.jsonl"),
    NewcomerFile("pairs.jsonl", words=("--objective", "reward")),
    NewcomerFile("prompts.jsonl", words=("--reward", "runs/pairs-jsonl-objective-reward")),
    NewcomerFile("prompts.jsonl", wrong=True, says=("PPO needs a reward model", "--reward")),
    NewcomerFile("unknown.csv", wrong=True, says=("'frage', 'antwort'", "--field instruction=frage")),
    NewcomerFile("empty.jsonl", wrong=True, says=("empty",)),
    NewcomerFile("broken.jsonl", wrong=True, says=("broken.jsonl:3", "20 of 40 records cannot be used")),
    NewcomerFile("report.pdf", wrong=True, says=("report.pdf", "save its text as .txt")),
    NewcomerFile("nothing", wrong=True, says=("no data files",)),
    NewcomerFile("model-copy", wrong=True, says=("this is a model, not data",)),
    NewcomerFile("absent.csv", wrong=True, says=("does not exist",)),
)


def write_files(directory: Path, model: str) -> None:
    """Write all files to a directory. model: a model directory."""
    faq = [{"question": question, "answer": answer, "id": str(n)} for n, (question, answer) in enumerate(PAIRS)]
    alpaca = [{"instruction": question, "input": "", "output": answer} for question, answer in PAIRS]
    _write_table(directory / "faq.csv", faq, ",")
    _write_table(directory / "alpaca.tsv", [{**row, "input": "sums"} for row in alpaca], "\t")
    _write_workbook(directory / "faq.xlsx", faq)
    _write_lines(directory / "alpaca.jsonl", alpaca)
    _write_lines(directory / "dolly.jsonl", [{"instruction": q, "context": "", "response": a} for q, a in PAIRS])
    turns = [[{"role": "user", "content": q}, {"role": "assistant", "content": a}] for q, a in PAIRS]
    _write_lines(directory / "messages.jsonl", [{"messages": messages} for messages in turns])
    chats = [{"id": q, "conversations": [{"from": "human", "value": q}, {"from": "gpt", "value": a}]} for q, a in PAIRS]
    (directory / "sharegpt.json").write_text(json.dumps(chats, indent=1))
    _write_lines(directory / "completions.jsonl", [{"prompt": q, "completion": a} for q, a in PAIRS])
    (directory / "key.json").write_text(json.dumps({"version": "1", "data": faq}))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(faq), directory / "faq.parquet")
    _write_saved(directory / "saved", faq)
    (directory / "folder").mkdir()
    _write_lines(directory / "folder" / "a.jsonl", faq[:20])
    _write_lines(directory / "folder" / "b.jsonl", faq[20:])
    (directory / "folder" / "README.md").write_text("about these files")
    (directory / "stories.txt").write_text("\n\n".join(f"Once there was a cat. {answer}" for _, answer in PAIRS))
    lines = "".join(json.dumps({"messages": messages}) + "\n" for messages in turns)
    (directory / "chats.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    _write_lines(directory / "pairs.jsonl", [{"prompt": q, "chosen": a, "rejected": "No."} for q, a in PAIRS])
    _write_lines(directory / "prompts.jsonl", [{"prompt": q, "category": "sums"} for q, _ in PAIRS])
    _write_table(directory / "unknown.csv", [{"frage": q, "antwort": a, "id": "7"} for q, a in PAIRS], ",")
    (directory / "empty.jsonl").write_text("")
    broken = [json.dumps(row) if n % 2 == 0 or n < 2 else "{broken" for n, row in enumerate(faq)]
    (directory / "broken.jsonl").write_text("\n".join([*broken[:2], "{broken", *broken[3:]]))
    (directory / "report.pdf").write_bytes(b"%PDF-1.4\n%....\n")
    (directory / "nothing").mkdir()
    (directory / "nothing" / "LICENSE").write_text("free")
    (directory / "model-copy").mkdir()
    for path in Path(model).iterdir():
        (directory / "model-copy" / path.name).write_bytes(path.read_bytes())


def _write_lines(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _write_table(path: Path, rows: Sequence[dict[str, str]], delimiter: str) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


def _write_workbook(path: Path, rows: Sequence[dict[str, str]]) -> None:
    import openpyxl

    book = openpyxl.Workbook()
    sheet = book.active
    sheet.append(list(rows[0]))
    for row in rows:
        sheet.append(list(row.values()))
    book.save(path)


def _write_saved(path: Path, rows: Sequence[dict[str, str]]) -> None:
    import datasets

    datasets.Dataset.from_list(list(rows)).save_to_disk(path)
