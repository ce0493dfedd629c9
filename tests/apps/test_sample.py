"""`tunesmith sample`: from models and prompts to reports that other commands read, also through kills."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.apps.sampled_models import CONTEXT, write_causal, write_t5
from tunesmith.apps import compare
from tunesmith.apps.finished_reports import check_reports, model_name, request_inputs
from tunesmith.apps.sample import LISTED, SampleSettings, run
from tunesmith.apps.sample_journal import JournalReply, ReplyJournal, ReplyPlace
from tunesmith.apps.sample_prompts import read_sample_prompts
from tunesmith.apps.sampling_reports import read_report
from tunesmith.errors import MissingInputError, StoppedError, UsageError
from tunesmith.files import write_json
from tunesmith.generate.export_directory import open_engine
from tunesmith.text.tree import Message

DAY = datetime(2026, 3, 4, 5, 6, 7, 8)
SETTINGS = SampleSettings("prompts.txt", ("mine.json",), batch_size=4)
MINE = {
    "default": {"generate_args": {"do_sample": True, "max_new_tokens": 6, "repetition_penalty": 1.1}},
    "configurations": [
        {"name": "k9", "generate_args": {"top_k": 9}},
        {"name": "greedy", "generate_args": {"do_sample": False}},
        {"name": "nucleus", "generate_args": {"top_p": 0.9}},
    ],
}
PROMPTS = ("What is this?", "Name <|endoftext|> three.", "Ü", "What is this?")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the models ``oasst``, ``dolly`` and ``t5``."""
    root = tmp_path_factory.mktemp("sampled")
    write_causal(root / "oasst")
    write_causal(root / "dolly", "dolly")
    write_t5(root / "t5")
    return root


@pytest.fixture(autouse=True)
def directory(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with prompts, configurations and the models."""
    monkeypatch.chdir(tmp_path)
    Path("prompts.txt").write_text("".join(f"{text}\n" for text in PROMPTS), encoding="utf-8")
    write_json(Path("mine.json"), MINE)
    for path in models.iterdir():
        Path(path.name).symlink_to(path)
    return tmp_path


def sample(*names: str, output: str = "out", time: datetime = DAY, **changes: Any) -> tuple[list[Path], str, str]:
    """(paths of the reports, what is printed, notices)."""
    target, log = io.StringIO(), io.StringIO()
    settings = replace(SETTINGS, **changes)
    paths = run(names or ["oasst"], settings, Path(output), target=target, errors=log, now=lambda: time)
    return paths, target.getvalue(), log.getvalue()


def outputs(path: Path) -> dict[tuple[str, str], list[str]]:
    """(prompt, configuration) -> the outputs, of the last such prompt."""
    content = json.loads(path.read_bytes())
    return {
        (prompt["prompt"], result["sampling_config"]): result["outputs"]
        for prompt in content["prompts"]
        for result in prompt["results"]
    }


def test_a_report_has_the_published_form() -> None:
    ((path,), printed, log) = sample()
    assert path == Path("out/2026-03-04_oasst_sampling_mine.json")
    text = path.read_text(encoding="ascii")
    content = json.loads(text)
    assert text == json.dumps(content, indent=2)
    assert list(content) == ["model_name", "date", "args", "prompts"]
    assert (content["model_name"], content["date"]) == ("oasst", "2026-03-04T05:06:07.000008")
    assert [prompt["prompt"] for prompt in content["prompts"]] == list(PROMPTS)
    for prompt in content["prompts"]:
        assert list(prompt) == ["prompt", "results"]
        assert [list(result) for result in prompt["results"]] == [["sampling_config", "sampling_params", "outputs"]] * 3
        assert [len(result["outputs"]) for result in prompt["results"]] == [2, 1, 2]
    default = MINE["default"]["generate_args"]  # type: ignore[index]
    assert content["prompts"][0]["results"][0]["sampling_params"] == {**default, "top_k": 9}
    assert content["args"]["effective_sampling_params"]["nucleus"]["top_k"] == 50
    assert "mine: top_k 50 is filled in for nucleus\n" in log
    assert list(Path("out").iterdir()) == [path]
    assert "wrote out/2026-03-04_oasst_sampling_mine.json" in printed
    assert "tunesmith compare out/2026-03-04_oasst_sampling_mine.json -o page.html" in printed


def test_equal_prompts_have_equal_replies_and_samples_differ() -> None:
    found = json.loads(sample()[0][0].read_bytes())["prompts"]
    assert found[0] == found[3]
    assert len({text for result in found[0]["results"] for text in result["outputs"]}) > 2


def test_a_reply_depends_on_neither_batch_nor_order_nor_what_else_is_sampled() -> None:
    whole = outputs(sample()[0][0])
    Path("prompts.txt").write_text("\n".join(reversed(PROMPTS)), encoding="utf-8")
    write_json(Path("mine.json"), {**MINE, "configurations": MINE["configurations"][::-1]})  # type: ignore[index]
    assert outputs(sample(output="reversed", batch_size=1)[0][0]) == whole
    fewer = outputs(sample(output="fewer", limit=1, sampling=("mine.json:k9",), samples=1)[0][0])
    assert fewer == {("What is this?", "k9"): whole["What is this?", "k9"][:1]}


def test_searches_are_those_of_stock_transformers() -> None:
    stock = AutoModelForCausalLM.from_pretrained("oasst").eval()
    common = {"do_sample": False, "max_new_tokens": 9, "repetition_penalty": 1.1}
    names = {"greedy": 1, "beam4": 4}
    configurations = [{"name": name, "generate_args": {**common, "num_beams": n}} for name, n in names.items()]
    write_json(Path("mine.json"), {"configurations": configurations})
    ((path,), _, _) = sample()
    renderer = open_engine("oasst")[0].renderer
    differ = 0
    for prompt in PROMPTS:
        ids = torch.tensor([renderer.prompt([Message("user", prompt)])])
        for name, beams in names.items():
            stops = sorted(renderer.stop_ids)
            found = stock.generate(ids, **common, num_beams=beams, eos_token_id=stops, pad_token_id=stops[0])
            new = found[0, ids.shape[1] :].tolist()
            assert outputs(path)[prompt, name] == [renderer.tokenizer.decode(new, skip_controls=False)]
        differ += outputs(path)[prompt, "greedy"] != outputs(path)[prompt, "beam4"]
    assert differ > 0


def test_another_seed_gives_other_replies() -> None:
    assert outputs(sample()[0][0]) != outputs(sample(output="other", seed=43)[0][0])


def test_outputs_have_their_end_tokens_which_readers_remove() -> None:
    ((path,), _, _) = sample("dolly", samples=6)
    content = json.loads(path.read_bytes())
    raw = [text for prompt in content["prompts"] for result in prompt["results"] for text in result["outputs"]]
    ended = [text for text in raw if text.endswith("### End")]
    assert content["args"]["end_tokens"] == ["### End"]
    assert 0 < len(ended) < len(raw)
    report = read_report(path)
    assert report is not None
    texts = [text for replies in report.prompts for group in replies.outputs.values() for text in group]
    assert texts == [text.removesuffix("### End") for text in raw]
    assert sum(end for replies in report.prompts for group in replies.ended.values() for end in group) == len(ended)


def test_several_models_and_files_of_configurations_have_a_report_each(directory: Path) -> None:
    paths, printed, _ = sample("oasst", "dolly", sampling=("mine.json:greedy", "mine.json:k9"), limit=1)
    assert [path.name for path in paths] == [
        f"2026-03-04_{name}_sampling_mine-{stem}.json" for name in ("oasst", "dolly") for stem in ("greedy", "k9")
    ]
    page = io.StringIO()
    compare.run([str(path) for path in paths[1::2]], output=Path("page.html"), text=True, target=page)
    assert "2 models, 1 prompt" in page.getvalue()
    assert str(Path("out", paths[0].name)) in printed
    command = printed[printed.index("compare the replies:") :].splitlines()[1:]
    assert max(map(len, command)) <= 80
    words = " ".join(command).replace("\\", "").split()
    assert words == ["tunesmith", "compare", *map(str, paths), "-o", "page.html"]


def test_conversations_are_sampled_in_the_format_of_the_model_and_read_again() -> None:
    turns = [
        {"role": "user", "content": "A?"},
        {"role": "assistant", "content": "B"},
        {"role": "user", "content": "C?"},
    ]
    Path("p.jsonl").write_text(json.dumps({"messages": turns}) + "\n")
    ((path,), _, _) = sample(prompts="p.jsonl")
    (prompt,) = json.loads(path.read_bytes())["prompts"]
    assert (prompt["prompt"], prompt["messages"]) == ("User: A?\n\nAssistant: B\n\nUser: C?", turns)
    report = read_report(path)
    assert report is not None
    assert [message.text for message in report.prompts[0].conversation] == ["A?", "B", "C?"]


def test_prompts_that_do_not_fit_are_counted_listed_and_left_out() -> None:
    long = "word " * CONTEXT
    Path("prompts.txt").write_text(f"short\n{long}\nalso short\n{long}\n")
    ((path,), _, log) = sample()
    content = json.loads(path.read_bytes())
    assert [prompt["prompt"] for prompt in content["prompts"]] == ["short", "also short"]
    assert [each["line"] for each in content["args"]["refused_prompts"]] == ["2", "4"]
    assert "2 of 4 prompts get no replies:\n  prompts.txt:2: " in log
    assert "tokens and 6 of a reply, but the model reads 128" in log
    Path("prompts.txt").write_text("short\n" + f"{long}\n" * (LISTED + 2))
    assert sample(output="more")[2].endswith("  and 2 more, which the report lists (refused_prompts)\n")
    Path("prompts.txt").write_text(long)
    with pytest.raises(MissingInputError, match=r"prompts.txt:1: the model can read none of the prompts with mine"):
        sample(output="none")


def test_a_format_that_has_no_place_for_a_pre_text_or_a_profile_says_so() -> None:
    with pytest.raises(MissingInputError, match="a system message, but format 'dolly' has no place for one"):
        sample("dolly", sampling=("synth:k50",))
    with pytest.raises(UsageError, match="has a system_profile, which only some prompt modes write; add --mode v2_5"):
        sample(sampling=("system_profile",))


def test_an_encoder_decoder_writes_a_report() -> None:
    ((path,), _, _) = sample("t5")
    assert len(outputs(path)) == 9
    assert json.loads(path.read_bytes())["args"]["end_tokens"] == ["</s>"]


def test_an_encoder_decoder_gets_no_prompt_that_is_longer_than_in_training() -> None:
    renderer = open_engine("t5")[0].renderer
    lengths = [len(renderer.prompt([Message("user", text)])) for text in PROMPTS]
    longest = max(lengths)
    assert lengths.count(longest) == 1
    for limit in (longest, longest - 1):
        name = f"limit-{limit}"
        shutil.copytree("t5", name)
        info = json.loads((Path(name) / "tunesmith.json").read_text())
        write_json(Path(name) / "tunesmith.json", {**info, "max_length": limit})
        ((path,), _, log) = sample(name)
        refused = json.loads(path.read_bytes())["args"]["refused_prompts"]
        reason = f"{longest} tokens, but an input has at most {limit}"
        expected = [] if limit == longest else [{"line": str(lengths.index(longest) + 1), "reason": reason}]
        assert refused == expected
        assert log.count("1 of 4 prompts get no replies") == len(expected)


def test_a_reward_model_is_refused_with_a_reason() -> None:
    Path("rm").mkdir()
    config = json.loads(Path("oasst/config.json").read_text())
    write_json(Path("rm/config.json"), {**config, "architectures": ["GPTNeoXForSequenceClassification"]})
    shutil.copy("oasst/model.safetensors", "rm")
    with pytest.raises(UsageError, match="this is a reward model: it scores replies and cannot write any"):
        sample("rm")


def test_a_format_is_for_the_models_that_declare_none(directory: Path) -> None:
    base = copy_without_format(directory)
    paths, _, log = sample(base, "dolly", format="plain", limit=1)
    assert [json.loads(path.read_bytes())["args"]["format"] for path in paths] == ["plain", "dolly"]
    assert log.count("dolly keeps its own prompt format, dolly; --format is for models that declare none\n") == 1
    assert log.count("keeps") == 1


@pytest.mark.parametrize("format", [None, "chatml", "t5-dolly"])
def test_all_models_are_checked_before_the_first_is_loaded(directory: Path, format: str | None) -> None:
    with pytest.raises(UsageError, match=r"^base: .*; for a base model append --format plain$"):
        sample("oasst", copy_without_format(directory), format=format)
    with pytest.raises(MissingInputError, match="nowhere"):
        sample("oasst", "nowhere")
    assert not Path("out").exists()


def copy_without_format(directory: Path) -> str:
    """A model directory as of a base model."""
    shutil.copytree(directory / "dolly", "base", ignore=shutil.ignore_patterns("tunesmith.json", "chat_template.jinja"))
    path = Path("base/tokenizer_config.json")
    write_json(path, {key: value for key, value in json.loads(path.read_text()).items() if key != "chat_template"})
    return "base"


def test_max_new_tokens_replaces_that_of_the_configurations() -> None:
    ((path,), _, _) = sample(max_new_tokens=2)
    result = json.loads(path.read_bytes())["prompts"][0]["results"][0]
    assert result["sampling_params"]["max_new_tokens"] == 2


def test_the_same_command_again_has_nothing_to_do_and_other_settings_replace_nothing() -> None:
    ((path,), _, _) = sample()
    before = path.read_bytes()
    again, printed, _ = sample()
    assert (again, path.read_bytes()) == ([path], before)
    assert f"{path} has these replies already\n                 replies  ended" in printed
    assert "length in characters" in " ".join(printed.split())
    with pytest.raises(UsageError, match="this report exists, and these differ from it: seed; move it away"):
        sample(seed=5)
    assert path.read_bytes() == before


def test_another_request_is_refused_without_a_model() -> None:
    time = datetime.now(UTC).replace(tzinfo=None)
    ((path,), _, _) = sample(time=time)
    prompts = read_sample_prompts("prompts.txt")
    check_reports(["oasst"], ["mine"], path.parent, request_inputs(prompts, 2, 42))
    check_reports(["oasst"], ["other"], path.parent, request_inputs(prompts[:1], 2, 42))
    with pytest.raises(UsageError, match="these differ from it: prompts, seed; move it away, or choose another -o"):
        check_reports(["dolly", "oasst"], ["mine"], path.parent, request_inputs(prompts[:1], 2, 43))
    journal = path.with_name("oasst_sampling_mine.json.part")
    journal.touch()  # an unfinished report is judged by its journal
    check_reports(["oasst"], ["mine"], path.parent, request_inputs(prompts[:1], 2, 43))


def killed(count: int, torn: bool) -> Callable[[ReplyJournal, ReplyPlace, JournalReply], None]:
    """An ``append`` that kills its process after so many replies, if ``torn`` in the middle of the next line."""
    append, done = ReplyJournal.append, [0]

    def append_and_die(journal: ReplyJournal, place: ReplyPlace, reply: JournalReply) -> None:
        if done[0] == count:
            if torn:
                with journal.path.open("ab") as file:
                    file.write(b"[1, 0, 0, ")
            os.kill(os.getpid(), signal.SIGKILL)
        done[0] += 1
        append(journal, place, reply)

    return append_and_die


@pytest.mark.parametrize("counts", [(0, 0, 7), (1, 3, 3, 5)])
@pytest.mark.parametrize("torn", [False, True])
def test_a_killed_process_continues_to_the_same_bytes(
    monkeypatch: pytest.MonkeyPatch, counts: tuple[int, ...], torn: bool
) -> None:
    ((expected,), summary, _) = sample(output="whole")
    for count in counts:
        child = os.fork()
        if child == 0:
            monkeypatch.setattr(ReplyJournal, "append", killed(count, torn))
            sample()
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    ((path,), printed, log) = sample(time=DAY.replace(day=5))
    assert path.name == expected.name
    assert path.read_bytes() == expected.read_bytes()
    assert printed.replace("out/", "whole/") == summary
    assert f"continuing: {sum(counts)} of 20 replies are there already" in log


def test_a_process_that_is_killed_before_its_journal_is_removed_continues(monkeypatch: pytest.MonkeyPatch) -> None:
    ((path,), _, _) = sample()
    expected = path.read_bytes()
    path.unlink()
    child = os.fork()
    if child == 0:
        monkeypatch.setattr(ReplyJournal, "remove", lambda journal: os.kill(os.getpid(), signal.SIGKILL))
        sample()
        os._exit(1)
    os.waitpid(child, 0)
    assert sorted(each.suffix for each in Path("out").iterdir()) == [".json", ".part"]
    sample()
    assert (list(Path("out").iterdir()), path.read_bytes()) == ([path], expected)


def test_a_signal_stops_after_a_reply_and_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    append = ReplyJournal.append

    def append_and_signal(journal: ReplyJournal, place: ReplyPlace, reply: JournalReply) -> None:
        append(journal, place, reply)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(ReplyJournal, "append", append_and_signal)
    with pytest.raises(
        StoppedError, match=r"stopped by SIGTERM; 1 of 15 replies are kept; give the same command again"
    ):
        sample(limit=3)
    monkeypatch.undo()


@pytest.mark.parametrize(
    ("path", "name"),
    [("runs/a", "runs/a"), ("./m/", "m"), ("/x/y/export", "y"), ("/x/y", "y"), ("../z", "z"), ("~/w", "w")],
)
def test_the_name_of_a_model_has_no_path_of_the_machine(path: str, name: str) -> None:
    assert model_name(path) == name


def test_two_reports_of_one_name_are_refused() -> None:
    with pytest.raises(UsageError, match="two models are called 'oasst', and so would be their reports"):
        sample("oasst", "oasst/")


def test_two_models_that_differ_in_a_character_that_no_file_name_has_are_refused() -> None:
    Path("runs").mkdir()
    for name in ("runs/oasst", "runs_oasst"):
        Path(name).symlink_to(Path("oasst").resolve())
    with pytest.raises(UsageError, match="the reports of the models 'runs/oasst' and 'runs_oasst' would have one name"):
        sample("runs/oasst", "runs_oasst")
