"""The display of a run for people: a live panel in a terminal, plain lines everywhere else.

``metrics.jsonl`` has all numbers; the display shows a part of them, unsmoothed.
"""

from __future__ import annotations

import io
import math
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TextIO, cast

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tunesmith.text.visible import visible
from tunesmith.train.loop import StepResult
from tunesmith.train.run.shown import GAP, LOSS, ShownMetric, ShownText, format_metrics, pack
from tunesmith.train.run.validation import ALL, ValidationMetrics

BARS = "▁▂▃▄▅▆▇█"
LINE_WIDTH = 160
"""Largest number of characters of a prompt or reply where there is no terminal."""
SKIPPED = "no update"
"""Shown for a step that changes no weight, such as one of PPO after its limit of the KL divergence."""
REDRAW_SECONDS = 0.1
"""Least time between two drawings of the panel, so that drawing does not slow small models down."""
WARNING = "WARNING"


class View(Protocol):
    """Displays the events of a run, in the order in which they happen."""

    def start(self, total: int, done: int, facts: Mapping[str, str]) -> None:
        """Training begins.

        total: optimizer steps of the run.
        done: steps that are done already.
        facts: name -> text, shown once.
        """

    def step(self, result: StepResult) -> None:
        """One optimizer step is done."""

    def validation(self, step: int, metrics: ValidationMetrics) -> None:
        """The weights after ``step`` steps were evaluated."""

    def replies(self, step: int, metrics: Mapping[str, float]) -> None:
        """The replies that the weights after ``step`` steps generate were compared with their references."""

    def texts(self, texts: Sequence[ShownText]) -> None:
        """Prompts and replies of the evaluation that was shown last."""

    def saved(self, step: int) -> None:
        """The checkpoint of ``step`` is complete."""

    def note(self, text: str) -> None:
        """Show a line."""

    def warn(self, text: str) -> None:
        """Show a line as a warning."""

    def finish(self) -> None:
        """Restore the terminal. It may be called twice, and without ``start``."""


class SilentView:
    """Displays nothing: of several processes only the first one does."""

    def start(self, total: int, done: int, facts: Mapping[str, str]) -> None:
        return None

    def step(self, result: StepResult) -> None:
        return None

    def validation(self, step: int, metrics: ValidationMetrics) -> None:
        return None

    def replies(self, step: int, metrics: Mapping[str, float]) -> None:
        return None

    def texts(self, texts: Sequence[ShownText]) -> None:
        return None

    def saved(self, step: int) -> None:
        return None

    def note(self, text: str) -> None:
        return None

    def warn(self, text: str) -> None:
        return None

    def finish(self) -> None:
        return None


def open_view(every: int | None, shown: Sequence[ShownMetric] = (LOSS,), console: Console | None = None) -> View:
    """A live panel if the console is a terminal that can move its cursor, plain lines otherwise.

    every: steps between two lines of steps, where there are lines; None: only the last step gets one.
    shown: the metrics that are shown, the most important one first.
    console: standard error by default.
    """
    console = console or Console(file=cast(TextIO, LogStream(sys.stderr)), highlight=False)
    live = console.is_terminal and not console.is_dumb_terminal
    return LiveView(console, shown) if live else PlainView(console, shown, every)


class LogStream(io.TextIOBase):
    """A text stream that no longer writes once writing has failed.

    The terminal of a run may be closed, the pipe behind it may end, and the disk of its log file may be full. Training
    then goes on, or saves and stops if a signal came with it; ``metrics.jsonl`` has all numbers.

    stream: where text is written.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.failed = stream, False

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self.stream.encoding

    def isatty(self) -> bool:
        return self.stream.isatty()

    def fileno(self) -> int:
        return self.stream.fileno()

    def write(self, text: str) -> int:
        self._attempt(lambda: self.stream.write(text))
        return len(text)

    def flush(self) -> None:
        self._attempt(self.stream.flush)

    def _attempt(self, action: Callable[[], object]) -> None:
        if not self.failed:
            try:
                action()
            except OSError:
                self.failed = True


class RunClock:
    """Estimates the time until the end of a run from the wall clock; evaluations and checkpoints count."""

    def __init__(self, total: int = 0, done: int = 0) -> None:
        self.total, self.first, self.began = total, done, time.monotonic()

    def remaining(self, done: int) -> str:
        """The time until the last step at the present rate; after the last step, the time that the run took."""
        elapsed = time.monotonic() - self.began
        if done >= self.total:
            return f"took {format_duration(elapsed)}"
        return f"{format_duration(elapsed / max(1, done - self.first) * (self.total - done))} left"


class PlainView:
    """One line for each event, without colours or cursor movements: for pipes, log files and batch systems."""

    def __init__(self, console: Console, shown: Sequence[ShownMetric], every: int | None) -> None:
        self.console, self.every = console, every
        self.clock, self.steps = RunClock(), StepFormatter(shown)

    def start(self, total: int, done: int, facts: Mapping[str, str]) -> None:
        self.clock = RunClock(total, done)
        for name, fact in facts.items():
            self.note(f"{name}: {fact}")
        if done:
            self.note(f"resuming after step {done} of {total}")

    def step(self, result: StepResult) -> None:
        items = self.steps.format(result)
        if result.done == result.total or (self.every and result.done % self.every == 0):
            self.note(GAP.join([step_title(result), *items, self.clock.remaining(result.done)]))

    def validation(self, step: int, metrics: ValidationMetrics) -> None:
        for name, values in select_sources(metrics).items():
            source = "" if name == ALL else f", {name}"
            self.note(f"validation at step {step}{source}: {GAP.join(format_metrics(values, self.steps.shown))}")

    def replies(self, step: int, metrics: Mapping[str, float]) -> None:
        self.note(f"generated replies at step {step}: {format_replies(metrics)}")

    def texts(self, texts: Sequence[ShownText]) -> None:
        for text in texts:
            self.note(f"{GAP}{text.line(LINE_WIDTH)}")

    def saved(self, step: int) -> None:
        self.note(f"checkpoint saved at step {step}")

    def note(self, text: str) -> None:
        # One unbroken line whatever the width: wrapped log lines cannot be searched.
        self.console.print(Text(visible(text)), soft_wrap=True)

    def warn(self, text: str) -> None:
        self.note(f"{WARNING} {text}")

    def finish(self) -> None:
        return None


class LiveView:
    """A panel that is redrawn in place; facts, validations and notes scroll by above it."""

    def __init__(self, console: Console, shown: Sequence[ShownMetric]) -> None:
        self.console = console
        self.live: Live | None = None
        self.clock, self.steps = RunClock(), StepFormatter(shown)
        self.curve: deque[float] = deque(maxlen=40)
        self.items: list[str] = []
        self.last: StepResult | None = None
        self.status: dict[str, str] = {}
        self.drawn = 0.0

    def start(self, total: int, done: int, facts: Mapping[str, str]) -> None:
        table = Table.grid(padding=(0, 2))
        for name, fact in facts.items():
            table.add_row(Text(visible(name), "dim"), Text(visible(fact)))
        self.console.print(table)
        if done:
            self.note(f"resuming after step {done} of {total}")
        self.clock = RunClock(total, done)
        self.live = Live(self.panel(), console=self.console, auto_refresh=False, transient=False)
        self.live.start()

    def step(self, result: StepResult) -> None:
        self.last, self.items = result, self.steps.format(result)
        if (value := result.metrics.get(self.steps.shown[0].name)) is not None:
            self.curve.append(value)
        if result.done == result.total or time.monotonic() - self.drawn >= REDRAW_SECONDS:
            self.draw()

    def validation(self, step: int, metrics: ValidationMetrics) -> None:
        for name, values in select_sources(metrics).items():
            items = format_metrics(values, self.steps.shown)
            self._event(step, "validation", items if name == ALL else [f"{name}:", *items])
        self.draw()

    def replies(self, step: int, metrics: Mapping[str, float]) -> None:
        self._event(step, "replies", [format_replies(metrics)])

    def texts(self, texts: Sequence[ShownText]) -> None:
        for text in texts:
            line = visible(text.line(self.console.width - len(GAP)))
            self.console.print(Text(GAP + line), no_wrap=True, overflow="ellipsis")

    def _event(self, step: int, kind: str, items: Sequence[str]) -> None:
        """Print what happened after a step, with further lines under the first one."""
        title = f"step {step:>6}  {kind:<10}  "
        first, *others = pack([visible(item) for item in items], self.console.width - len(title)) or [""]
        self.console.print(Text.assemble((title, "dim"), first))
        for line in others:
            self.console.print(Text(" " * len(title) + line))

    def saved(self, step: int) -> None:
        self.status["checkpoint"] = f"step {step}"
        self.draw()

    def note(self, text: str) -> None:
        self.console.print(Text(visible(text)))

    def warn(self, text: str) -> None:
        self.console.print(Text(visible(f"{WARNING} {text}"), "bold"))

    def finish(self) -> None:
        if self.live is not None:
            self.draw()
            self.live.stop()
            self.live = None

    def draw(self) -> None:
        """Draw the panel in its present state."""
        if self.live is not None:
            self.live.update(self.panel(), refresh=True)
            self.drawn = time.monotonic()

    def panel(self) -> RenderableType:
        """Progress, the metrics of the last step, the last evaluation and the last checkpoint."""
        done = self.last.done if self.last else self.clock.first
        remaining = self.clock.remaining(done) if self.last else "waiting for the first step"
        title = step_title(self.last) if self.last else f"step {done}/{self.clock.total}"
        width = self.console.width - len(title) - len(remaining) - 2 * len(GAP)
        head = Table.grid(padding=(0, len(GAP)))
        head.add_row(
            ProgressBar(self.clock.total, done, width=max(1, min(28, width))),
            Text(title, "bold"),
            Text(remaining, "dim"),
        )
        parts: list[RenderableType] = [head]
        if self.items:
            first, *others = self.items
            space = max(0, self.console.width - len(first) - len(GAP))
            curve = sparkline(list(self.curve))[-space:] if space else ""
            parts.append(Text.assemble((first, "bold cyan"), GAP, (curve, "cyan")))
            parts += [Text(line) for line in pack(others, self.console.width)]
        parts += [Text(f"{name}: {text}", "dim") for name, text in self.status.items()]
        return Group(Text(""), *parts)


class StepFormatter:
    """Formats the metrics of steps. A metric that not every step has keeps its last value, as the rewards of PPO do.

    shown: the metrics that are shown, the most important one first.
    """

    def __init__(self, shown: Sequence[ShownMetric]) -> None:
        self.shown, self._last = shown, dict[str, float]()

    def format(self, result: StepResult) -> list[str]:
        """The shown metrics, then learning rate, gradient norm and speed, one item each."""
        self._last.update(result.metrics)
        metrics = format_metrics(self._last, self.shown) or [f"{self.shown[0].label} -"]
        if not result.tokens:
            return [*metrics, SKIPPED]
        speed = result.tokens / result.seconds if result.seconds > 0 else 0.0
        return [
            *metrics,
            f"learning rate {result.learning_rate:.3g}",
            f"gradient norm {result.gradient_norm:.3g}",
            f"{speed:,.0f} tokens/s",
        ]


def step_title(result: StepResult) -> str:
    """``step 3/30  epoch 1``; epochs are shown from 1."""
    return f"step {result.done}/{result.total}  epoch {result.epoch + 1}"


def select_sources(metrics: ValidationMetrics) -> ValidationMetrics:
    """All sources together, then each source if there are several."""
    sources = {name: values for name, values in metrics.items() if name != ALL}
    return {ALL: metrics[ALL], **(sources if len(sources) > 1 else {})}


def format_replies(metrics: Mapping[str, float]) -> str:
    """``BLEU 12.50, ROUGE-L 0.321``."""
    return f"BLEU {metrics['bleu']:.2f}, ROUGE-L {metrics['rouge_l']:.3f}"


def format_duration(seconds: float) -> str:
    """3725 -> 1:02:05, 65 -> 1:05."""
    whole = max(0, round(seconds))
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def sparkline(values: list[float]) -> str:
    """One bar for each value, between the lowest and the highest; "!" for a value that is not finite."""
    finite = [value for value in values if math.isfinite(value)]
    low, high = min(finite, default=0.0) / 2, max(finite, default=0.0) / 2  # halves, so that no difference can overflow
    spread = high - low or 1.0
    return "".join(
        BARS[round((value / 2 - low) / spread * (len(BARS) - 1))] if math.isfinite(value) else "!" for value in values
    )
