"""The pages of the published systems lead from a trained run to an upload: their commands run as they are printed."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.publish.card.card_runs import copy_run
from tunesmith.cli.main import main

PAGES = {
    "dolly-v2": "dolly-v2-3b",
    "flan-t5-dolly": "flan-t5-dolly-xxl",
    "oasst-sft": "oasst-sft-4-pythia-12b",
    "tulu-2.5": "tulu-2.5-dpo-13b-uf-overall",
}
"""Page -> the recipe of the tiny run that is in the place of its run."""


def printed_commands(page: str) -> Iterator[list[str]]:
    """The words of the commands of a page that need a trained run and nothing else."""
    text = (REPOSITORY / "docs" / "systems" / f"{page}.md").read_text(encoding="utf-8")
    for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[1:2] and words[1] in ("export", "card", "push"):
                yield words


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("page", PAGES)
def test_the_printed_commands_lead_to_an_upload(
    page: str, trained: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = list(printed_commands(page))
    assert [words[1] for words in commands] == ["export", "card", "push"]
    run = trained(PAGES[page])
    monkeypatch.chdir(run.parent.parent)  # the data and base models of the tiny run are here
    place, output = Path(commands[0][2]), Path(commands[0][-1])
    if not place.exists():
        copy_run(run, place)
    if output.exists():
        output.rename(f"earlier-{page}")
    for words in commands:
        monkeypatch.setattr(sys, "argv", ["2" if word == "4000" else word for word in words])  # steps of a tiny run
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code in (0, None), capsys.readouterr().err
    printed = capsys.readouterr().err
    assert "nothing was sent (--dry-run)" in printed
    assert "README.md" in printed
    assert (output / "README.md").is_file()
