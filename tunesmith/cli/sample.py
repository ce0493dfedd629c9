"""`tunesmith sample`: the replies of models to a list of prompts, as sampling reports."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tunesmith.cli.lazy import load_heavy_part
from tunesmith.cli.start_checks import check_writable

SAMPLE, SETTINGS = "tunesmith.apps.sample:run", "tunesmith.apps.sample:SampleSettings"

ModeName = Literal["legacy", "v2", "v2_5", "v3", "chatml"]


def sample(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL", help="Directories of runs, or local model directories.")
    ],
    prompts: Annotated[
        str,
        typer.Option(
            metavar="FILE",
            help="A file of prompts: .txt with one a line, .jsonl with strings, or records that the reader prompts "
            "reads (prompt, or messages); also .gz. Or the name of a built-in set.",
        ),
    ] = "general",
    sampling: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|FILE",
            help="Sampling configurations: a built-in file (noprefix, noprefix2, synth, default, inference_server, "
            "...), some of its configurations (noprefix:k50,greedy), or a .json file in that form; may be repeated. "
            "[default: noprefix]",
            show_default=False,
        ),
    ] = None,
    samples: Annotated[
        int, typer.Option(min=1, help="Replies to a prompt with each configuration; one if it is greedy.")
    ] = 2,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="The directory that gets the reports.")
    ] = Path("reports"),
    limit: Annotated[
        int | None, typer.Option(min=1, help="Use only the first prompts, so many.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The random seed; the same seed gives the same replies.")] = 42,
    max_new_tokens: Annotated[
        int | None,
        typer.Option(min=1, help="Cut replies at so many tokens, whatever the configuration says.", show_default=False),
    ] = None,
    mode: Annotated[
        ModeName | None,
        typer.Option(
            help="Write prompts as Open-Assistant's program does, instead of in the model's own format. Then text in a "
            "prompt that looks like a control token becomes one.",
            show_default=False,
        ),
    ] = None,
    prompt_format: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="The prompt format, such as chatml, of a model that Tunesmith has not exported.",
            show_default=False,
        ),
    ] = None,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Replies that are generated together; it changes no reply.")
    ] = 32,
) -> None:
    """Sample the replies of models to prompts, and write a report for each model.

    The report has the form that Open-Assistant publishes; `tunesmith compare` and `tunesmith score` read it. If the
    command is stopped, the same command continues.

    For example: tunesmith sample runs/base runs/assistant --sampling noprefix:nucleus9
    """
    check_writable(output, "choose another -o")
    settings = load_heavy_part(SETTINGS)(
        prompts=prompts,
        sampling=tuple(sampling or ("noprefix",)),
        samples=samples,
        seed=seed,
        mode=mode,
        limit=limit,
        max_new_tokens=max_new_tokens,
        format=prompt_format,
        batch_size=batch_size,
    )
    load_heavy_part(SAMPLE)(models, settings, output)
