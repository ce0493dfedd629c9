"""The command line: help without heavy imports, one line for a mistake of the user, documented exit codes."""

from __future__ import annotations

import ast
import errno
import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tunesmith import __version__
from tunesmith.cli import main as command_line
from tunesmith.cli import train
from tunesmith.cli.lazy import COMMANDS, CliCommand, load_part
from tunesmith.errors import LockedError, RecipeError, StoppedError, StorageError, UsageError

HEAVY = ("torch", "transformers", "tokenizers", "numpy", "pyarrow", "pydantic", "yaml", "rich", "jinja2")
"""Packages that `tunesmith --help` does not need; each of them would slow it down."""


TOGETHER = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "tunesmith"]


def tunesmith(*words: str, cwd: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tunesmith.cli", *words]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, env={"PYTHONPATH": str(REPOSITORY)}, check=False
    )


def called(monkeypatch: pytest.MonkeyPatch, *words: str) -> object:
    """The exit code of one command in this process."""
    monkeypatch.setattr(sys, "argv", ["tunesmith", *words])
    with pytest.raises(SystemExit) as caught:
        command_line.main()
    return caught.value.code


def test_help_lists_every_command_with_one_line_and_the_exit_codes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called(monkeypatch, "--help") == 0
    text = capsys.readouterr().out
    assert text.startswith("Usage: tunesmith ")
    for name, command in COMMANDS.items():
        assert f"  {name}" in text
        assert command.summary in text
    assert "78 invalid recipe" in " ".join(text.split())


def test_help_loads_neither_the_commands_nor_anything_heavy() -> None:
    unwanted = [*HEAVY, *(command.part.partition(":")[0] for command in COMMANDS.values())]
    script = (
        "import sys\nfrom tunesmith.cli.main import main\nsys.argv = ['tunesmith', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print([name for name in {unwanted!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=REPOSITORY, check=True)
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_the_table_names_a_function_that_is_there(command: CliCommand) -> None:
    module, _, function = command.part.partition(":")
    spec = importlib.util.find_spec(module)
    assert spec is not None, module
    assert spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    assert function in [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]


def test_a_part_is_a_module_or_something_in_it() -> None:
    assert load_part("tunesmith.errors").RecipeError is RecipeError
    assert load_part("tunesmith.errors:RecipeError") is RecipeError


def test_the_version_is_one_line() -> None:
    done = tunesmith("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"tunesmith {__version__}\n", "")


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (
            ["show", "doly-v2-3b"],
            78,
            "tunesmith: error: there is no recipe or layer 'doly-v2-3b'; did you mean 'dolly-v2-3b'?",
        ),
        (["show", "nowhere.yaml"], 66, "tunesmith: error: there is no recipe file nowhere.yaml"),
        (
            ["recipes", "no-such"],
            64,
            "tunesmith: error: no recipe or layer contains the words 'no-such'; `tunesmith recipes`",
        ),
        (["show", "tiny"], 64, "tunesmith: error: 'tiny' is a layer, which is applied to a recipe; "),
        (
            ["train", "mine.jsonl"],
            78,
            "tunesmith: error: 'mine.jsonl' is a data file, not a recipe; append data.sources.0.path=mine.jsonl to a "
            "recipe, or let `tunesmith init mine.jsonl` write one\n",
        ),
        (
            ["train", "dolly-v2-3b", "train.lr=1e-4"],
            78,
            "tunesmith: error: command line train.lr: unknown key; did you mean 'train.learning_rate'?\n",
        ),
        (
            ["train", "dolly-v2-3b", "num_train_epochs=3"],
            78,
            "tunesmith: error: command line num_train_epochs: unknown key; did you mean 'train.epochs'?\n",
        ),
        (
            ["show", "dolly-v2-3b", "train.epochs=x"],
            78,
            "tunesmith: error: command line train.epochs: expected a number, got 'x'",
        ),
        (["schema", "--output", "/dev/null/x"], 74, "tunesmith: error: /dev/null: cannot write: "),
    ],
)
def test_a_mistake_is_one_line_and_an_exit_code(words: list[str], code: int, line: str) -> None:
    done = tunesmith(*words)
    assert done.returncode == code
    assert done.stdout == ""
    assert done.stderr.startswith(line)
    assert done.stderr.count("\n") == 1


def test_two_dashes_end_the_options_of_a_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "-dash.csv").write_text("question,answer\na,b\n")
    monkeypatch.chdir(tmp_path)
    assert called(monkeypatch, "init", "--", "-dash.csv") == UsageError.exit_code
    shown = capsys.readouterr()
    assert shown.out.startswith("-dash.csv: reader: alpaca")
    assert "because the model is not named" in shown.err
    assert called(monkeypatch, "init", "-dash.csv") == UsageError.exit_code
    assert "No such option" in capsys.readouterr().err


def test_several_mistakes_are_one_line_each(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("extends: dolly-v2-3b\ntrain:\n  learning_rte: 1\n  clip: high\n")
    done = tunesmith("show", "mine.yaml", cwd=tmp_path)
    assert done.returncode == 78
    assert done.stderr.splitlines() == [
        "tunesmith: error: mine.yaml:3 train.learning_rte: unknown key; did you mean 'train.learning_rate'?",
        "tunesmith: error: mine.yaml:4 train.clip: expected a number, got 'high'",
    ]


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (
            ["--epochs", "3"],
            "No such option: --epochs. Values of a recipe are written as KEY=VALUE; did you mean train.epochs=3?",
        ),
        (["--epochs=3"], "did you mean train.epochs=3?"),
        (["--lr", "1e-5"], "did you mean train.learning_rate=1e-5?"),
        (["--per-device-train-batch-size", "8"], "did you mean train.batch_size=8?"),
        (["--num-train-epochs", "2"], "did you mean train.epochs=2?"),
        (["--gradient_checkpointing", "dolly-v2-3b"], "did you mean model.gradient_checkpointing=VALUE?"),
        (["--hlep"], "No such option: --hlep. Did you mean --help?"),
        (["--zzz"], "Values of a recipe are written as KEY=VALUE, such as train.epochs=3."),
    ],
)
@pytest.mark.parametrize("command", ["train", "check", "show"])
def test_an_option_that_is_a_value_of_a_recipe_is_reported_with_its_key(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str, words: list[str], advice: str
) -> None:
    assert called(monkeypatch, command, "dolly-v2-3b", *words) == 64
    shown = capsys.readouterr().err
    assert shown.startswith(f"Usage: tunesmith {command} ")
    assert advice in " ".join(shown.split())


@pytest.mark.parametrize("words", [[], ["sho"], ["show"], ["show", "--colour"], ["schema", "extra"], ["--colour"]])
def test_a_command_line_that_cannot_be_understood_ends_with_64(words: list[str]) -> None:
    done = tunesmith(*words)
    assert done.returncode == 64
    assert "Usage: tunesmith" in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


def test_what_is_quoted_in_an_error_cannot_act_on_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text('extends: dolly-v2-3b\n"\\e[31mred\\u202e": 1\n')
    done = tunesmith("show", "mine.yaml", cwd=tmp_path)
    assert "\\x1b[31mred\\u202e" in done.stderr
    assert "\x1b" not in done.stderr
    assert "\u202e" not in done.stderr


@pytest.mark.parametrize(
    ("error", "code", "prefix"),
    [(StoppedError("stopped"), 75, "tunesmith: "), (LockedError("taken", where="runs/x"), 76, "tunesmith: error: ")],
)
def test_an_error_of_a_command_becomes_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, code: int, prefix: str
) -> None:
    def failing() -> None:
        raise error

    monkeypatch.setattr(command_line, "load_part", lambda part: failing)
    assert called(monkeypatch, "recipes") == code
    assert capsys.readouterr().err == f"{prefix}{error}\n"


def test_a_defect_of_ours_is_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(command_line, "load_part", lambda part: failing)
    monkeypatch.setattr(sys, "argv", ["tunesmith", "recipes"])
    with pytest.raises(ZeroDivisionError):
        command_line.main()


def test_an_output_that_cannot_be_written_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(**_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(command_line, "build_app", lambda: full)
    with pytest.raises(SystemExit) as stop:
        command_line.main()
    assert stop.value.code == StorageError.exit_code
    assert capsys.readouterr().err == "tunesmith: error: the output cannot be written: No space left on device\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP, signal.SIGINT])
def test_a_signal_before_training_ends_it_with_the_documented_code(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*_: object) -> None:
        os.kill(os.getpid(), number)
        time.sleep(1.0)

    monkeypatch.setattr(train, "load", stopped)
    assert called(monkeypatch, "train", "dolly-v2-3b") == StoppedError.exit_code
    assert capsys.readouterr().err.startswith(f"tunesmith: stopped by {number.name} outside of the training steps")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            OSError(errno.EIO, "Input/output error", "/data/store/ids.bin"),
            "/data/store/ids.bin: cannot be read or written",
        ),
        (
            FileNotFoundError(errno.ENOENT, "No such file or directory", "/cache/x"),
            "/cache/x: cannot be read or written",
        ),
        (OSError(errno.EXDEV, "Invalid link", "/a", None, "/b"), "/b: cannot be read or written: Invalid link; check"),
        (OSError(errno.ESTALE, "Stale file handle"), "the output cannot be written: Stale file handle"),
    ],
)
def test_an_error_of_a_file_that_nothing_else_has_named_is_one_line(
    error: OSError, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(**_: object) -> None:
        raise error

    monkeypatch.setattr(command_line, "build_app", lambda: failing)
    with pytest.raises(SystemExit) as stop:
        command_line.main()
    assert stop.value.code == StorageError.exit_code
    shown = capsys.readouterr().err
    assert shown.startswith(f"tunesmith: error: {line}")
    assert shown.count("\n") == 1


@pytest.mark.parametrize("error", [ConnectionRefusedError(errno.ECONNREFUSED, "refused"), OSError("no such model")])
def test_an_error_of_something_else_stays_as_it_is(error: OSError, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(**_: object) -> None:
        raise error

    monkeypatch.setattr(command_line, "build_app", lambda: failing)
    with pytest.raises(OSError, match=r"refused|no such model"):
        command_line.main()


def test_streams_that_the_caller_closed_are_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    monkeypatch.setattr(command_line, "build_app", lambda: lambda **_: print(sys.stdin.read(), "written"))
    command_line.main()


def test_a_system_without_file_locks_gets_a_sentence() -> None:
    command_line.check_platform(importlib.util.find_spec)
    with pytest.raises(UsageError, match="Linux and macOS, and on Windows inside of WSL"):
        command_line.check_platform(lambda module: None)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["train", "dolly-v2-3b", "tiny", "train.stepz=3"], 78, "unknown key; did you mean 'train.steps'?"),
        (["chat", "runs/some"], 64, "`tunesmith chat` runs in one process, and 2 were started"),
    ],
)
def test_a_mistake_that_several_processes_find_is_printed_once(words: list[str], code: int, message: str) -> None:
    environment = {"PYTHONPATH": str(REPOSITORY), "PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*TOGETHER, *words], capture_output=True, text=True, cwd=REPOSITORY, env=environment, check=False, timeout=120
    )
    assert done.stderr.count("tunesmith: error: ") == 1, done.stderr
    assert message in done.stderr
    assert f"exitcode  : {code} " in done.stderr


@pytest.mark.parametrize("name", [name for name, command in COMMANDS.items() if not command.is_divided])
def test_a_command_that_is_not_divided_among_processes_is_refused_in_several(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    for key, value in {"RANK": "0", "WORLD_SIZE": "8", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(key, value)
    assert called(monkeypatch, name, "runs/some") == 64
    expected = f"tunesmith: error: `tunesmith {name}` runs in one process, and 8 were started; "
    assert capsys.readouterr().err.startswith(expected)
    assert called(monkeypatch, name, "--help") == 0
