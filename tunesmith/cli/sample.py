"""`tunesmith sample`: the replies of models to a list of prompts, as sampling reports."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from tunesmith.cli.lazy import load_heavy_part, load_part
from tunesmith.cli.start_checks import check_model_directory, check_models, check_writable
from tunesmith.cli.words import CHOSEN_HELP, Chosen, KeepOption
from tunesmith.errors import UsageError
from tunesmith.launch import launched_process, reported_once

OPEN_SAMPLING = "tunesmith.generate.sampling_configurations:open_sampling_file"
READ_PROMPTS = "tunesmith.apps.sample_prompts:read_sample_prompts"
CHECK_REPORTS = "tunesmith.apps.finished_reports:check_reports"
REQUEST_INPUTS = "tunesmith.apps.finished_reports:request_inputs"
SAMPLE, SETTINGS = "tunesmith.apps.sample:run", "tunesmith.apps.sample:SampleSettings"

BEST_OF, BEST_OF_SETTINGS = "tunesmith.apps.best_of:run", "tunesmith.apps.best_of:BestOfSettings"
BEST_OF_SAMPLING = "noprefix:nucleus9"

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
        help="The prompt format of the models that do not declare one, such as plain for a base model.",
        show_default=False,
    ),
]
BatchOption = Annotated[int, typer.Option(min=1, help="Replies that are generated together; it changes no reply.")]
EngineOption = Annotated[
    Literal["tunesmith", "vllm"],
    typer.Option(
        help="What generates. vllm (an extra, on a GPU) reads exports of causal models; it draws differently."
    ),
]
BestOfOption = Annotated[
    int | None,
    typer.Option(
        min=2,
        metavar="N",
        help="Rejection sampling: N replies to a prompt instead of --samples, of which --scorer finds the best. "
        f"Without --sampling they are of {BEST_OF_SAMPLING}.",
        show_default=False,
    ),
]
ScorerOption = Annotated[
    str | None,
    typer.Option(metavar="MODEL", help="The reward model of --best-of: its run or export.", show_default=False),
]
WriteOption = Annotated[
    Chosen | None,
    typer.Option(help=f"With --best-of, {CHOSEN_HELP} [default: report]", show_default=False),
]


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
    engine: EngineOption = "tunesmith",
    best_of: BestOfOption = None,
    scorer: ScorerOption = None,
    write: WriteOption = None,
    keep: KeepOption = None,
) -> None:
    """Sample the replies of models to prompts, and write a report for each model.

    The report has the form that Open-Assistant publishes; `tunesmith compare` and `tunesmith score` read it. If the
    command is stopped, the same command continues. With --best-of, a reward model finds the best replies.

    For example: tunesmith sample runs/base runs/assistant --sampling noprefix:nucleus9
    """
    chosen = tuple(sampling or ("noprefix" if best_of is None else BEST_OF_SAMPLING,))
    with reported_once(launched_process(os.environ)):
        _check_best_of(best_of, {"--scorer": scorer, "--write": write, "--keep": keep})
        check_writable(output, "choose another -o")
        check_models(models, prompt_format)
        if scorer is not None:
            check_model_directory(scorer)
        stems = [load_part(OPEN_SAMPLING)(name).stem for name in chosen]
        inputs = load_part(REQUEST_INPUTS)(load_part(READ_PROMPTS)(prompts, limit), best_of or samples, seed)
        load_part(CHECK_REPORTS)(models, stems, output, inputs)
    settings = load_heavy_part(SETTINGS)(
        prompts=prompts,
        sampling=chosen,
        samples=best_of or samples,
        seed=seed,
        mode=mode,
        limit=limit,
        max_new_tokens=max_new_tokens,
        format=prompt_format,
        batch_size=batch_size,
        engine=engine,
    )
    if best_of is None:
        load_heavy_part(SAMPLE)(models, settings, output)
    else:
        best = load_heavy_part(BEST_OF_SETTINGS)(scorer, write or "report", keep)
        load_heavy_part(BEST_OF)(models, settings, output, best)


def _check_best_of(best_of: int | None, options: Mapping[str, Any]) -> None:
    """Raises UsageError for options of --best-of without it, and for --best-of without a reward model."""
    given = [name for name, value in options.items() if value is not None]
    if best_of is None and given:
        raise UsageError(f"{given[0]} belongs to --best-of", advice="append --best-of 8, or leave it out")
    if best_of is not None and "--scorer" not in given:
        advice = "append --scorer and the directory of a reward model"
        raise UsageError("--best-of needs a reward model that scores the replies", advice=advice)
