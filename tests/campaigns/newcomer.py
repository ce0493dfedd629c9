"""What a new user meets: init, check, train and chat on files of many forms, some of them wrong.

    python -m tests.campaigns.newcomer [--only NAME] [--keep DIRECTORY]

Every command is the one that `tunesmith init` prints, in a child process of this one so that it costs no imports. The
model is stories260K where TUNESMITH_REAL_DATA has it, otherwise a generated one.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from tests.newcomer_files import FILES, NewcomerFile, write_files
from tests.text.small_tokenizers import byte_level, write_tokenizer
from tunesmith.cli.main import main as tunesmith
from tunesmith.compose import train_recipe  # noqa: F401 - imported before the children begin
from tunesmith.model.load import new_model

FEW_STEPS = ("train.epochs=null", "train.steps=6", "train.evaluate_every=3", "train.save_every=3", "train.threads=1")
FEW_STEPS_PPO = (*FEW_STEPS, "objective.max_new_tokens=8", "objective.prompts_per_iteration=8", "train.batch_size=8")


class Ended(NamedTuple):
    """How a command ended.

    code: its exit code.
    text: what it printed.
    """

    code: int
    text: str

    @property
    def last(self) -> str:
        """Its last line."""
        return next((line for line in reversed(self.text.splitlines()) if line.strip()), "")


def in_child(work: Callable[[], object]) -> int:
    """Do the work in a child process; returns its exit code."""
    child = os.fork()
    if child == 0:
        code = 70
        try:
            work()
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def call(directory: Path, words: Sequence[str], typed: str = "") -> Ended:
    """Run a command of Tunesmith in a child process. typed: what its input is."""
    log, given = directory / "log.txt", directory / "typed.txt"
    given.write_text(typed)

    def run() -> None:
        os.chdir(directory)
        for target, path, flags in ((0, given, os.O_RDONLY), (1, log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)):
            os.dup2(os.open(path, flags, 0o600), target)
        os.dup2(1, 2)
        torch.set_num_threads(1)
        sys.argv = ["tunesmith", *words]
        tunesmith()

    return Ended(in_child(run), log.read_text())


def find_model(directory: Path) -> str:
    """stories260K, or a generated model of that size."""
    data = os.environ.get("TUNESMITH_REAL_DATA")
    if data and (found := Path(data) / "models" / "stories260K").is_dir():
        return str(found)
    model = directory / "model"
    end = "<|endoftext|>"
    write_tokenizer(model, byte_level(), bos=end, eos=end, unk=end)
    sizes = {"architecture": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    new_model({**sizes, "intermediate_size": 128, "max_position_embeddings": 512}, 1024, 0).save_pretrained(model)
    return str(model)


def try_file(directory: Path, model: str, file: NewcomerFile) -> list[str]:
    """The cells of a line of the table: the file, and what init, check, train and chat did."""
    words = ["init", file.name, "--model", model, "-o", f"{file.recipe}.yaml", *file.words]
    began = call(directory, words)
    said = began.last if began.code else next(line for line in began.text.splitlines() if "reader: " in line)
    said = said.removeprefix("tunesmith: error: ")
    if began.code:
        return [file.name, said, f"exit {began.code}", "", ""]
    checked = call(directory, ["check", f"{file.recipe}.yaml"])
    few = FEW_STEPS_PPO if "objective: ppo" in began.text else FEW_STEPS
    trained = call(directory, ["train", f"{file.recipe}.yaml", *few])
    if "objective: reward" in began.text:
        talked = Ended(0, "scores replies")
    else:
        talked = call(directory, ["chat", f"runs/{file.recipe}", "max_new_tokens=12"], "What is 3 plus 3?\n")
    cells = [_outcome(ended) for ended in (checked, trained, talked)]
    return [file.name, said.partition(": ")[2], *cells]


def _outcome(ended: Ended) -> str:
    return "ok" if ended.code == 0 else f"exit {ended.code}: {ended.last}"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", help="the name of one file")
    parser.add_argument("--keep", type=Path, help="a new directory for all files")
    arguments = parser.parse_args()
    directory = arguments.keep or Path(tempfile.mkdtemp(prefix="newcomer-"))
    directory.mkdir(exist_ok=True)
    os.environ["XDG_CACHE_HOME"] = str(directory / "cache")
    model = find_model(directory)
    in_child(lambda: write_files(directory, model))  # Arrow starts threads, which a later child would not have
    failed, began = 0, time.monotonic()
    for file in FILES:
        if arguments.only not in (None, file.name):
            continue
        cells = try_file(directory, model, file)
        works = cells[2:] == ["ok", "ok", "ok"]
        expected = works != file.wrong and (not file.wrong or all(part in cells[1] for part in file.says))
        failed += not expected
        print(f"{'' if expected else 'NOT EXPECTED '}{cells[0]}: {' | '.join(cell for cell in cells[2:] if cell)}")
        print(f"    {cells[1]}", flush=True)
    print(f"{failed} of {len(FILES)} not as expected, {time.monotonic() - began:.0f} s")
    if arguments.keep is None:
        shutil.rmtree(directory)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
