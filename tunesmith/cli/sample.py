"""`tunesmith sample`: the replies of models to a list of prompts, as sampling reports."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tunesmith.cli.lazy import load_heavy_part
from tunesmith.cli.start_checks import check_writable

SAMPLE, SETTINGS = "tunesmith.apps.sample:run", "tunesmith.apps.sample:SampleSettings"

ModeName = Literal["legacy", "v2", "v2_5", "v3", "chatml"]


ModelArguments = Annotated[
    list[str], typer.Argument(metavar="MODEL", help="Directories of runs, or local model directories.")
]
PromptsOption = Annotated[
    str,
    typer.Option(
        metavar="NAME|FILE",
        help="The prompts: a .txt file with one a line, .jsonl with strings, or records that the reader prompts reads "
        "(prompt, or messages); also .gz. Or a built-in set by its name.",
    ),
]
SamplingOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME|FILE",
        help="Sampling configurations: a built-in file (noprefix, noprefix2, synth, default, inference_server, ...), "
        "some of its configurations (noprefix:k50,greedy), or a .json file in that form; may be repeated. "
        "[default: noprefix]",
        show_default=False,
    ),
]
SamplesOption = Annotated[
    int, typer.Option(min=1, help="Replies to a prompt with each configuration; one if it is greedy.")
]
OutputOption = Annotated[
    Path, typer.Option("--output", "-o", metavar="DIR", help="The directory that gets the reports.")
]
LimitOption = Annotated[
    int | None, typer.Option(min=1, help="Use only the first prompts, so many.", show_default=False)
]
SeedOption = Annotated[int, typer.Option(min=0, help="The random seed; the same seed gives the same replies.")]
LengthOption = Annotated[
    int | None,
    typer.Option(min=1, help="Cut replies at so many tokens, whatever the configuration says.", show_default=False),
]
ModeOption = Annotated[
    ModeName | None,
    typer.Option(
        help="Write prompts as Open-Assistant's program does, not in the model's own format. Then text in a prompt "
        "that looks like a control token becomes one.",
        show_default=False,
    ),
]
FormatOption = Annotated[
    str | None,
    typer.Option(
        "--format",
        help="The prompt format, such as chatml, of a model that Tunesmith has not exported.",
        show_default=False,
    ),
]
BatchOption = Annotated[int, typer.Option(min=1, help="Replies that are generated together; it changes no reply.")]


def sample(
    models: ModelArguments,
    prompts: PromptsOption = "general",
    sampling: SamplingOption = None,
    samples: SamplesOption = 2,
    output: OutputOption = Path("reports"),
    limit: LimitOption = None,
    seed: SeedOption = 42,
    max_new_tokens: LengthOption = None,
    mode: ModeOption = None,
    prompt_format: FormatOption = None,
    batch_size: BatchOption = 32,
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
