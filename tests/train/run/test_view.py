"""The display: lines for a pipe, a panel for a terminal, and no escape sequence from foreign text in either."""

from __future__ import annotations

import io
import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from tunesmith.train.loop import StepResult
from tunesmith.train.run.shown import LOSS, SHARE, SIGNED, ShownMetric, ShownText, pack, shorten
from tunesmith.train.run.view import (
    SKIPPED,
    LiveView,
    PlainView,
    StepFormatter,
    View,
    format_duration,
    open_view,
    sparkline,
)

SHOWN = (LOSS, ShownMetric("accuracy", "token accuracy", SHARE))


def metrics(loss: float, accuracy: float) -> dict[str, float]:
    return {"loss": loss, "accuracy": accuracy, "targets": 10}


def result(done: int, total: int = 30, loss: float = 1.5) -> StepResult:
    return StepResult(
        done, total, done // 10, (1, 2), {"loss": loss, "accuracy": 0.5}, 1e-5, 0.75, 100.0, 2000, 500, 0.5
    )


def terminal(width: int = 100) -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=width, legacy_windows=False, color_system="standard")


def pipe() -> Console:
    return Console(file=io.StringIO(), force_terminal=False, width=40, highlight=False)


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def play(view: View) -> None:
    view.start(30, 0, {"model": "llama"})
    for done in range(1, 31):
        view.step(result(done))
        if done % 10 == 0:
            view.validation(done, {"dolly": metrics(1.25, 0.5), "oasst": metrics(2.0, 0.25), "all": metrics(1.75, 0.3)})
            view.replies(done, {"bleu": 12.5, "rouge_l": 0.25})
            view.texts([ShownText("prompt", "Say red."), ShownText("reply", "red " * 60)])
            view.saved(done)
    view.finish()
    view.finish()


def test_a_pipe_gets_lines_without_any_escape_and_a_terminal_gets_the_panel() -> None:
    assert isinstance(open_view(10, SHOWN, pipe()), PlainView)
    assert isinstance(open_view(10, SHOWN, terminal()), LiveView)
    console = pipe()
    play(open_view(10, SHOWN, console))
    assert "\x1b" not in written(console)
    assert "\r" not in written(console)


def test_every_event_is_one_line_at_the_steps_asked_for() -> None:
    console = pipe()
    play(open_view(10, SHOWN, console))
    lines = written(console).splitlines()
    steps = [line for line in lines if line.startswith("step ")]
    assert [line.split()[1] for line in steps] == ["10/30", "20/30", "30/30"]
    assert (
        "epoch 2  loss 1.5000  token accuracy 50.0%  learning rate 1e-05  gradient norm 0.75  4,000 tokens/s"
        in steps[0]
    )
    assert "took" in steps[-1]
    assert lines[0] == "model: llama"
    assert lines[2:5] == [
        "validation at step 10: loss 1.7500  token accuracy 30.0%",
        "validation at step 10, dolly: loss 1.2500  token accuracy 50.0%",
        "validation at step 10, oasst: loss 2.0000  token accuracy 25.0%",
    ]
    assert lines[6] == "  prompt: Say red."
    assert lines[7].startswith("  reply: red red ")
    assert "checkpoint saved at step 10" in lines
    assert "generated replies at step 10: BLEU 12.50, ROUGE-L 0.250" in lines
    console = pipe()
    play(open_view(None, SHOWN, console))
    assert [line.split()[1] for line in written(console).splitlines() if line.startswith("step ")] == ["30/30"]


def test_the_panel_shows_the_last_of_everything() -> None:
    console = terminal()
    play(open_view(10, SHOWN, console))
    text = written(console)
    for part in (
        "step 30/30",
        "loss 1.5000",
        "learning rate 1e-05",
        "checkpoint: step 30",
        "loss 1.7500",
        "reply: red",
    ):
        assert part in text
    assert text.rstrip().endswith("\x1b[?25h"), "the cursor is restored"


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_is_shown_as_it_is(loss: float) -> None:
    for console in (pipe(), terminal()):
        view = open_view(1, SHOWN, console)
        view.start(30, 0, {})
        view.step(result(30, loss=loss))
        view.finish()
        assert f"loss {loss}" in written(console)


def test_foreign_text_moves_no_cursor_and_is_no_markup() -> None:
    hostile = "[bold]data\x1b[2J\x1b]0;title\x07\u202e.jsonl[/bold]"
    for console in (pipe(), terminal()):
        view = open_view(1, SHOWN, console)
        view.start(30, 0, {"data": hostile, hostile: "x"})
        view.note(hostile)
        view.warn(hostile)
        view.validation(1, {hostile: metrics(1, 1), "b": metrics(1, 1), "all": metrics(1, 1)})
        view.finish()
        text = written(console)
        assert "[bold]data" in text
        for forbidden in ("\x1b[2J", "\x1b]0", "\u202e", "\x07"):
            assert forbidden not in text


def test_a_resumed_run_is_announced() -> None:
    for console in (pipe(), terminal()):
        view = open_view(1, SHOWN, console)
        view.start(30, 12, {})
        view.step(result(13))
        view.finish()
        assert "resuming after step 12 of 30" in written(console)


@given(st.lists(st.floats(), max_size=50))
@example([1e308, -1e308, 0.0])
@example([5e-324, 0.0, math.nan])
def test_a_sparkline_has_one_character_for_each_value(values: list[float]) -> None:
    line = sparkline(values)
    assert len(line) == len(values)
    assert all((sign == "!") == (not math.isfinite(value)) for sign, value in zip(line, values, strict=True))


def test_a_step_without_metrics_tokens_or_time_is_shown() -> None:
    bare = StepResult(1, 1, 0, (), {}, 0.0, 0.0, 0.0, 0, 0, 0.0)
    assert StepFormatter(SHOWN).format(bare) == ["loss -", SKIPPED]


def test_a_metric_that_not_every_step_has_keeps_its_last_value() -> None:
    steps = StepFormatter([ShownMetric("rewards/mean", "mean reward", SIGNED), LOSS])
    assert steps.format(result(1))[0] == "loss 1.5000"
    first = StepResult(2, 30, 0, (), {"loss": 1.0, "rewards/mean": 0.5}, 0.0, 0.0, 0.0, 1, 1, 0.0)
    assert steps.format(first)[:2] == ["mean reward +0.500", "loss 1.0000"]
    assert steps.format(result(3))[:2] == ["mean reward +0.500", "loss 1.5000"]


@pytest.mark.parametrize("width", [80, 120])
def test_no_line_of_the_panel_is_wrapped(width: int) -> None:
    """A line that is as wide as the terminal or wider would be continued on the next one, in the middle of a word."""
    shown = [LOSS, *(ShownMetric(f"rewards/{number}", f"a metric with number {number}", SIGNED) for number in range(5))]
    console = terminal(width)
    view = LiveView(console, shown)
    view.start(100_000, 0, {"run": "runs/mine"})
    values = {each.name: 0.125 for each in shown}
    view.step(StepResult(99_998, 100_000, 1234, (), values, 1e-5, 0.75, 100.0, 2000, 500, 0.5))
    view.validation(99_998, {"dolly": values, "oasst": values, "all": values})
    view.texts([ShownText("prompt", "red " * 99), ShownText("reply", "\u82f1" * 99)])
    view.saved(99_998)
    with console.capture() as captured:
        console.print(view.panel())
    lines = [Text.from_ansi(line) for line in (written(console) + captured.get()).splitlines()]
    assert max(line.cell_len for line in lines) <= width
    for each in shown:
        assert sum(f"{each.label} {0.125:{each.form}}" in line.plain for line in lines) >= 4, "in one piece everywhere"


@given(st.text(max_size=300), st.integers(0, 100))
@example("a" * 300, 5)
def test_a_text_is_shown_on_one_line_of_the_width(text: str, width: int) -> None:
    assert len(shorten(text, width)) <= width
    line = ShownText("reply", text).line(20 + width)
    assert line.startswith("reply: ")
    assert len(line) <= 20 + width
    assert not any(sign in line for sign in "\r\n\t")


@given(st.lists(st.text(st.characters(exclude_categories=["Cc", "Z"]), min_size=1, max_size=30)), st.integers(1, 100))
def test_items_are_packed_in_order_and_never_divided(items: list[str], width: int) -> None:
    lines = pack(items, width)
    assert "  ".join(lines) == "  ".join(items)
    assert all(len(line) <= width or line in items for line in lines)


def test_durations_are_readable() -> None:
    assert [format_duration(seconds) for seconds in (0, 65, 3725, -3)] == ["0:00", "1:05", "1:02:05", "0:00"]
