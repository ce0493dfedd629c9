"""What a person sees of a run: a small live panel in a terminal, plain lines everywhere else.

Nothing here is a record: the numbers are in ``metrics.jsonl``, and every one of them is shown as it is, unsmoothed.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Mapping
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tunesmith.text.visible import visible
from tunesmith.train.loop import StepResult
from tunesmith.train.run.callbacks import Scores

BARS = "▁▂▃▄▅▆▇█"
SHARES = ("accuracy", "rewards/accuracies", "logps/improved", "rewards/finished")
"""Measures that are shares of something."""
TELLING = ("loss", *SHARES, "rewards/mean", "rewards/margins", "margin", "kendall_tau", "kl", "reference_kl")
"""Measures that are shown, the most telling first; metrics.jsonl has all of them."""
MOST = 4
"""So many measures of a step are all shown."""
PAUSE = 0.1
"""Seconds between two drawings of the panel, at least: drawing must not be felt in the speed of small models."""


class View(Protocol):
    """Told of everything that a person may want to see, in the order in which it happens."""

    def start(self, total: int, done: int, facts: Mapping[str, str]) -> None:
        """Training begins: ``total`` steps, of which ``done`` are behind us; facts are shown once, above the rest."""

    def step(self, result: StepResult) -> None:
        """One optimizer step is done. An action of the loop."""

    def validation(self, step: int, scores: Scores) -> None:
        """The weights after ``step`` steps were evaluated: source -> score, and "all"."""

    def saved(self, step: int) -> None:
        """The checkpoint of ``step`` is whole."""

    def note(self, text: str) -> None:
        """Something else worth a line."""

    def finish(self) -> None:
        """The terminal is given back; safe to call twice, and without ``start``."""


def open_view(every: int | None, console: Console | None = None) -> View:
    """A live panel if ``console`` (standard error by default) is a terminal that can move its cursor, lines otherwise.

    every: steps between two lines, where there are lines; None: only the last step gets one.
    """
    console = console or Console(stderr=True, highlight=False)
    live = console.is_terminal and not console.is_dumb_terminal
    return LiveView(console) if live else PlainView(console, every)


class Pace:
    """How fast the run goes, by the clock on the wall: evaluations and checkpoints take part."""

    def __init__(self, total: int = 0, done: int = 0) -> None:
        self.total, self.first, self.began = total, done, time.monotonic()

    def left(self, done: int) -> str:
        """How long until the last step, if it goes on like this; how long it took, once it is done."""
        gone = time.monotonic() - self.began
        if done >= self.total:
            return f"took {duration(gone)}"
        return f"{duration(gone / max(1, done - self.first) * (self.total - done))} left"


class PlainView:
    """One line an event, without colours or cursor movements: for pipes, log files and batch systems."""

    def __init__(self, console: Console, every: int | None) -> None:
        self.console, self.every = console, every
        self.pace = Pace()

    def start(self, total: int, done: int, facts: Mapping[str, str]) -> None:
        self.pace = Pace(total, done)
        for name, fact in facts.items():
            self.note(f"{name}: {fact}")
        if done:
            self.note(f"continuing after step {done} of {total}")

    def step(self, result: StepResult) -> None:
        if result.done == result.total or (self.every and result.done % self.every == 0):
            self.note(f"{heading(result)}  {'  '.join(figures(result))}  {self.pace.left(result.done)}")

    def validation(self, step: int, scores: Scores) -> None:
        self.note(f"validation after step {step}: {judgement(scores)}")

    def saved(self, step: int) -> None:
        self.note(f"checkpoint of step {step} saved")

    def note(self, text: str) -> None:
        # As one unbroken line whatever the width: wrapped log lines cannot be searched.
        self.console.print(Text(visible(text)), soft_wrap=True)

    def finish(self) -> None:
        return None


class LiveView:
    """A panel that is redrawn in place; facts, validations and notes scroll by above it."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.live: Live | None = None
        self.pace = Pace()
        self.losses: deque[float] = deque(maxlen=40)
        self.last: StepResult | None = None
        self.marks: dict[str, str] = {}
        self.drawn = 0.0

    def start(self, total: int, done: int, facts: Mapping[str, str]) -> None:
        table = Table.grid(padding=(0, 2))
        for name, fact in facts.items():
            table.add_row(Text(visible(name), "dim"), Text(visible(fact)))
        self.console.print(table)
        if done:
            self.note(f"continuing after step {done} of {total}")
        self.pace = Pace(total, done)
        self.live = Live(self.panel(), console=self.console, auto_refresh=False, transient=False)
        self.live.start()

    def step(self, result: StepResult) -> None:
        self.last = result
        self.losses.append(result.metrics.get("loss", math.nan))
        if result.done == result.total or time.monotonic() - self.drawn >= PAUSE:
            self.draw()

    def validation(self, step: int, scores: Scores) -> None:
        self.marks["validation"] = f"{judgement({'all': scores['all']})}, step {step}"
        self.console.print(Text.assemble((f"step {step:>6}  validation  ", "dim"), visible(judgement(scores))))
        self.draw()

    def saved(self, step: int) -> None:
        self.marks["checkpoint"] = f"step {step}"
        self.draw()

    def note(self, text: str) -> None:
        self.console.print(Text(visible(text), "bold" if text.startswith("WARNING") else ""))

    def finish(self) -> None:
        if self.live is not None:
            self.draw()
            self.live.stop()
            self.live = None

    def draw(self) -> None:
        """Draw the panel as things are now."""
        if self.live is not None:
            self.live.update(self.panel(), refresh=True)
            self.drawn = time.monotonic()

    def panel(self) -> RenderableType:
        """Progress, the figures of the last step, and what was last evaluated and saved."""
        done = self.last.done if self.last else self.pace.first
        head = Table.grid(padding=(0, 2))
        left = self.pace.left(done) if self.last else "first step ..."
        title = heading(self.last) if self.last else f"step {done}/{self.pace.total}"
        head.add_row(ProgressBar(self.pace.total, done, width=28), Text(title, "bold"), Text(left, "dim"))
        parts: list[RenderableType] = [head]
        if self.last:
            first, *others = figures(self.last)
            parts.append(Text.assemble((first, "bold cyan"), "  ", (spark(list(self.losses)), "cyan")))
            parts.append(Text("  ".join(others)))
        parts += [Text(f"{name}: {mark}", "dim") for name, mark in self.marks.items()]
        return Group(Text(""), *parts)


def heading(result: StepResult) -> str:
    return f"step {result.done}/{result.total}  epoch {result.epoch + 1}"


def figures(result: StepResult) -> list[str]:
    """The measures of a step, the loss first, then rate, gradient, speed and the share of tokens that are trained."""
    chosen = telling(result.metrics) if len(result.metrics) > MOST else result.metrics
    metrics = [f"{name} {value:.4f}" for name, value in chosen.items()]
    speed = result.tokens / result.seconds if result.seconds > 0 else 0.0
    share = result.targets / result.tokens if result.tokens else 0.0
    return [
        *(metrics or ["loss -"]),
        f"learning rate {result.learning_rate:.3g}",
        f"gradient {result.gradient_norm:.3g}",
        f"{speed:,.0f} tokens/s",
        f"{share:.0%} targets",
    ]


def telling(metrics: Mapping[str, float]) -> Mapping[str, float]:
    """The measures that say most, in a fixed order."""
    return {name: metrics[name] for name in TELLING if name in metrics}


def judgement(scores: Scores) -> str:
    """Scores in words; where there is only one source, "all" says the same and is left out."""
    names = [name for name in scores if name != "all"]
    shown = names if len(names) == 1 else ["all", *names]
    texts = [" ".join(_worded(*measure) for measure in telling(scores[name]).items()) for name in shown]
    return "  ".join(text if len(shown) == 1 else f"{name} {text}" for name, text in zip(shown, texts, strict=True))


def _worded(name: str, value: float) -> str:
    return f"{name} {value:.1%}" if name in SHARES else f"{name} {value:.4f}"


def duration(seconds: float) -> str:
    """3725 -> 1:02:05, 65 -> 1:05."""
    whole = max(0, round(seconds))
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def spark(values: list[float]) -> str:
    """A line of bars between the lowest and the highest value; "!" where one is not finite."""
    finite = [value for value in values if math.isfinite(value)]
    low, high = min(finite, default=0.0) / 2, max(finite, default=0.0) / 2  # halves: no difference can overflow
    statistics = high - low or 1.0
    heights = (
        round((value / 2 - low) / statistics * (len(BARS) - 1)) if math.isfinite(value) else None for value in values
    )
    return "".join("!" if height is None else BARS[height] for height in heights)
