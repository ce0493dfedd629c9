"""The commands of docs/publish.md, from a file to an upload, as they are printed there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from tests.benchmark.small_tasks import write_tasks
from tests.conftest import REPOSITORY
from tests.newcomer_files import PAIRS
from tests.text.small_tokenizers import byte_level, write_tokenizer
from tunesmith.model.load import new_model

SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
HEADING = "## From your own file to a published model"


def write_base(directory: Path) -> None:
    """A model without a prompt format, as one takes it from the hub."""
    write_tokenizer(directory, byte_level(), eos="<|endoftext|>")
    init = {"architecture": "gpt_neox", "max_position_embeddings": 2048, **SIZES}
    new_model(init, 1000, seed=1).save_pretrained(directory)


def printed_commands() -> str:
    text = (REPOSITORY / "docs" / "publish.md").read_text(encoding="utf-8")
    return re.findall(r"```sh\n(.*?)```", text[text.index(HEADING) :], re.DOTALL)[0]


@pytest.mark.slow
@pytest.mark.timeout(1200)  # seven commands that import PyTorch: 226 s on two busy cores
def test_the_commands_of_the_road_to_a_published_model_run_as_they_are_printed(tmp_path: Path) -> None:
    write_base(tmp_path / "base")
    write_tasks(tmp_path / "zeroshot")
    rows = ["question,answer", *(f"{question},{answer}" for question, answer in PAIRS)]
    (tmp_path / "faq.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    # `tunesmith` is that of the tests, which may not be installed.
    start = f'tunesmith() {{ {sys.executable} -m tunesmith "$@"; }}\n'
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "HF_HUB_OFFLINE": "1"}
    commands = printed_commands()
    assert [line.split()[1] for line in commands.splitlines()] == [
        *("init", "train", "benchmark", "sample", "compare", "card", "push")
    ]
    ended = subprocess.run(
        ["bash", "-e", "-c", start + commands],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    export = tmp_path / "runs" / "faq" / "export"
    card = ModelCard.load(export / "README.md")
    assert card.data.license == "apache-2.0"
    assert {each.dataset_name.split(" (")[0] for each in card.data.eval_results} >= {"BoolQ", "PIQA", "HellaSwag"}
    assert re.search(r"comparison\.html", card.content)
    listed = {line.split()[-1] for line in ended.stderr.splitlines() if re.match(r" +[\d,]+  \S+$", line)}
    assert listed == {path.relative_to(export).as_posix() for path in export.rglob("*") if path.is_file()}
    assert "nothing was sent (--dry-run)" in ended.stderr
    assert json.loads((export / "config.json").read_text())["model_type"] == "gpt_neox"
