"""`tunesmith benchmark`: models on benchmark tasks."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import typer

from tunesmith.cli.lazy import load_heavy_part, load_part
from tunesmith.cli.start_checks import check_models, check_writable
from tunesmith.errors import MissingInputError, UsageError
from tunesmith.launch import launched_process, reported_once

PART = "tunesmith.apps.benchmark"
CHECK_FILES = "tunesmith.benchmark.task_files:check_files"
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
QUIET = {"TQDM_DISABLE": "1", "TOKENIZERS_PARALLELISM": "false"}
"""Environment of libraries that would show separate progress bars."""

DataOption = Annotated[
    str | None,
    typer.Option(
        metavar="DIR",
        help="The directory with the files of the tasks, such as arc_easy.test.jsonl; `hub` downloads them.",
        show_default=False,
    ),
]
TasksOption = Annotated[
    str,
    typer.Option(
        help="Tasks of lm-evaluation-harness, and suites: dolly (the seven of the dolly cards), mmlu, truthfulqa; "
        "separated by commas."
    ),
]
OutputOption = Annotated[Path, typer.Option("--output", "-o", help="The directory for results and finished work.")]
ChatOption = Annotated[
    Literal["no", "yes", "both"],
    typer.Option(help="Write prompts in the prompt format of the model, as messages, or in both ways."),
]
FormatOption = Annotated[
    str | None,
    typer.Option(
        "--format", help="With --chat, the prompt format of the models that declare none.", show_default=False
    ),
]
ShotsOption = Annotated[
    int | None,
    typer.Option(min=0, help="Examples in every prompt. [default: what the task has]", show_default=False),
]
LimitOption = Annotated[
    int | None,
    typer.Option(min=1, help="Use the first N items of every task, to try it out.", show_default=False),
]
PublishedOption = Annotated[
    bool, typer.Option("--with-published", help="Show the nine rows of the card of dolly-v2-7b as well.")
]
EngineOption = Annotated[
    Literal["tree", "hf"],
    typer.Option(help="tree computes shared text once; hf is the model of lm-evaluation-harness, as a proof."),
]
DtypeOption = Annotated[
    Literal["auto", "float32", "bfloat16"],
    typer.Option(help="The number format; auto is bfloat16 on a GPU and float32 elsewhere."),
]


def benchmark(
    models: Annotated[
        list[str],
        typer.Argument(metavar="MODEL", help="Runs, their exports, or other local model directories."),
    ],
    data: DataOption = None,
    tasks: TasksOption = "dolly",
    output: OutputOption = Path("benchmark"),
    chat: ChatOption = "no",
    prompt_format: FormatOption = None,
    shots: ShotsOption = None,
    limit: LimitOption = None,
    with_published: PublishedOption = False,
    engine: EngineOption = "tree",
    dtype: DtypeOption = "auto",
) -> None:
    """Evaluate models on benchmark tasks: scores with intervals, and what distinguishes the models.

    Prompts and metrics are those of lm-evaluation-harness. A call that was stopped continues where it was, and one
    that is repeated reads its results.

    For example: tunesmith benchmark runs/base runs/assistant --data zeroshot
    """
    names = tuple(name.strip() for name in tasks.split(",") if name.strip())
    with reported_once(launched_process(os.environ)):
        if find_spec("lm_eval") is None:
            what = "benchmarks need lm-evaluation-harness, which is not installed"
            raise MissingInputError(what, advice="pip install 'tunesmith[eval]'")
        if data is None:
            advice = "--data DIR names the directory of the files; --data hub downloads them"
            raise UsageError("the data of the tasks are missing", where="--data", advice=advice)
        check_writable(output, "choose another -o")
        check_models(models, prompt_format, needs_format=chat != "no")
        load_part(CHECK_FILES)(names, data, shots)
    for name, value in {**QUIET, **({} if data == "hub" else OFFLINE)}.items():
        os.environ.setdefault(name, value)
    run = load_heavy_part(f"{PART}:run")
    options = load_part(f"{PART}:BenchmarkOptions")(
        names, data, output, shots, limit, chat, prompt_format, engine, dtype, with_published
    )
    run(models, options)
