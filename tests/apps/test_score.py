"""`tunesmith score`: every thread and every reply gets the score of the model, or the reason why it has none."""

from __future__ import annotations

import gzip
import io
import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tests.model.trees import small_model
from tests.reward_worlds import judge_recipe
from tunesmith.apps.sampling_reports import read_report, without_end
from tunesmith.apps.score import ReaderChoice, run
from tunesmith.compose import train_recipe
from tunesmith.errors import DataError, MissingInputError, RecipeError, TunesmithError, UsageError
from tunesmith.evaluate import reward_scorer as reward_scorer_module
from tunesmith.evaluate.reward_scorer import open_reward_scorer
from tunesmith.text.tree import Message, Tree


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world with a trained reward model in ``run``."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("score")
    train_recipe(judge_recipe(root, ["train.steps=20"]))
    return root


def score(world: Path, *inputs: object, **settings: Any) -> tuple[str, str]:
    """(what is written, what is printed)."""
    target, log = io.StringIO(), io.StringIO()
    run(str(world / "run"), [str(path) for path in inputs], target=target, errors=log, **settings)
    return target.getvalue(), log.getvalue()


def stock_score(world: Path, *turns: str) -> float:
    """By stock transformers: user and assistant in turn."""
    model = AutoModelForSequenceClassification.from_pretrained(world / "run" / "export").eval()
    tokenizer = AutoTokenizer.from_pretrained(world / "run" / "export")
    messages = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(turns)]
    ids = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        return float(model(input_ids=ids).logits[0, 0])


def talk(*turns: str) -> dict[str, Any]:
    return {"messages": [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(turns)]}


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_conversations_get_the_score_of_stock_transformers(world: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "talks.jsonl", talk("Say red.", "red red"), talk("Say red.", "blue", "Again.", "old big"))
    found, log = score(world, path)
    lines = [json.loads(line) for line in found.splitlines()]
    assert [line["place"] for line in lines] == [f"{path}:1", f"{path}:2"]
    assert lines[1]["messages"] == talk("Say red.", "blue", "Again.", "old big")["messages"]
    assert lines[0]["score"] == pytest.approx(stock_score(world, "Say red.", "red red"), abs=1e-5)
    assert lines[1]["score"] == pytest.approx(stock_score(world, "Say red.", "blue", "Again.", "old big"), abs=1e-5)
    assert "2 threads of 2 records, mean score" in log


def test_ranked_replies_get_a_line_each_and_their_order_is_measured(world: Path) -> None:
    found, log = score(world, world / "lists.jsonl", reading=ReaderChoice("ultrafeedback"))
    lines = [json.loads(line) for line in found.splitlines()]
    assert len(lines) == 180
    assert [line["rank"] for line in lines[:3]] == [0, 1, 2]
    shares = [a["score"] > b["score"] for a, b in zip(lines[::3], lines[2::3], strict=True)]
    assert sum(shares) / len(shares) > 0.9
    assert "60 rankings, 180 pairs: accuracy 0." in log or "60 rankings, 180 pairs: accuracy 1." in log


def test_a_ranking_inside_a_conversation_is_measured_where_its_replies_end(world: Path) -> None:
    """An OpenAssistant tree in which the better reply is answered: it is compared without what follows."""
    scorer = open_reward_scorer(world / "run")
    tree = Tree(
        (
            Message("user", "Say red."),
            Message("assistant", "red red", rank=0),
            Message("user", "Again."),
            Message("assistant", "blue"),
            Message("assistant", "old", rank=1),
        ),
        (-1, 0, 1, 2, 0),
    )
    (tokens,) = scorer.render([tree])
    assert not isinstance(tokens, DataError)
    (found,) = scorer.scores([tokens])
    assert found.replies == pytest.approx([stock_score(world, "Say red.", "red red"), found.threads[1]], abs=1e-5)
    assert found.threads[0] == pytest.approx(stock_score(world, "Say red.", "red red", "Again.", "blue"), abs=1e-5)


def test_batches_of_records_change_no_score(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reading = ReaderChoice("preference-text")
    whole, _ = score(world, world / "pairs.jsonl", reading=reading)
    monkeypatch.setattr(reward_scorer_module, "BATCH_TOKENS", 1)
    alone, _ = score(world, world / "pairs.jsonl", reading=reading)
    first, second = ([json.loads(line)["score"] for line in text.splitlines()] for text in (whole, alone))
    assert first == pytest.approx(second, abs=1e-5)


REPORT = {
    "model_name": "someone/model",
    "date": "2023-04-03T10:00:00",
    "args": {},
    "prompts": [
        {
            "prompt": "Say red.",
            "results": [
                {"sampling_config": "greedy", "sampling_params": {}, "outputs": ["red red<|endoftext|>"]},
                {"sampling_config": "k50", "sampling_params": {}, "outputs": ["blue", "red", "red"]},
            ],
        },
        {"prompt": "Say blue.", "results": [{"sampling_config": "k50", "sampling_params": {}, "outputs": ["old big"]}]},
    ],
}


@pytest.mark.parametrize("form", ["indented", "one line", "gzip"])
def test_a_sampling_report_gets_means_by_setting(world: Path, tmp_path: Path, form: str) -> None:
    path = tmp_path / ("report.jsonl" if form == "one line" else "report.json")
    path.write_text(json.dumps(REPORT, indent=None if form == "one line" else 2))
    if form == "gzip":
        path = tmp_path / "report.json.gz"
        path.write_bytes(gzip.compress(json.dumps(REPORT, indent=2).encode()))
    found = json.loads(score(world, path)[0])
    greedy, k50 = (
        stock_score(world, "Say red.", "red red"),
        [stock_score(world, *turns) for turns in (("Say red.", "blue"), ("Say red.", "red"), ("Say blue.", "old big"))],
    )
    expected = {"greedy": greedy, "k50": (k50[0] + 2 * k50[1] + k50[2]) / 4}
    assert found["results"] == pytest.approx(expected, abs=1e-5)
    assert found["mean_reward"] == pytest.approx((greedy + k50[0] + 2 * k50[1] + k50[2]) / 5, abs=1e-5)
    assert found["RM_score"] == pytest.approx((max(greedy, *k50[:2]) + k50[2]) / 2, abs=1e-5)
    assert found["scores"][0]["k50"] == pytest.approx([k50[0], k50[1], k50[1]], abs=1e-5)
    assert {key: found[key] for key in ("model_name", "report", "unscored")} == {
        "model_name": "someone/model",
        "report": path.name,
        "unscored": 0,
    }
    assert found["reward_model"] == str(world / "run")


def test_the_best_of_n_is_expected_from_all_replies_and_printed(world: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "report.json", REPORT)
    found, log = score(world, path)
    scores = sorted(json.loads(found)["scores"][0]["k50"])
    expected = {"1": sum(scores) / 3, "2": (scores[1] + 2 * scores[2]) / 3, "3": scores[2]}
    assert json.loads(found)["best_of"] == {"k50": pytest.approx(expected)}
    assert "best of n, n =" in log
    assert "  1 prompt (1 not)" in log
    assert max(map(len, log.splitlines())) <= 80


def test_prompts_of_several_turns_are_scored_with_their_turns(world: Path, tmp_path: Path) -> None:
    report = json.loads(json.dumps(REPORT))
    turns = talk("Say red.", "blue", "Again.")["messages"]
    report["prompts"][1] |= {"prompt": "User: Say red. ...", "messages": turns}
    found = json.loads(score(world, write(tmp_path / "report.json", report))[0])
    assert found["scores"][1]["k50"] == pytest.approx(
        [stock_score(world, "Say red.", "blue", "Again.", "old big")], abs=1e-5
    )


def test_several_reports_are_a_list_and_a_file_is_written_whole(world: Path, tmp_path: Path) -> None:
    path, output = write(tmp_path / "one.json", REPORT), tmp_path / "scores.json"
    found, log = score(world, path, path, output=output)
    assert found == ""
    assert len(json.loads(output.read_text())) == 2
    assert log.count("Mean score of the best of n replies") == 1


def test_the_file_of_scores_is_named_with_the_command_that_uses_it(world: Path, tmp_path: Path) -> None:
    path, output = write(tmp_path / "one.json", REPORT), tmp_path / "scores.json"
    _, log = score(world, path, output=output)
    wrote, above, *command = log.splitlines()[log.splitlines().index(f"wrote {output}") :]
    assert (wrote, above) == (f"wrote {output}", "compare the replies with their scores:")
    words = shlex.split("\n".join(command).replace("\\\n", ""))
    assert words == ["tunesmith", "compare", str(path), "--scores", str(output), "-o", "page.html"]
    assert f"\nreplaced {output}\n" in score(world, path, output=output)[1]
    _, log = score(world, write(tmp_path / "talks.jsonl", talk("a", "b")), output=output)
    assert log.endswith(f"\nreplaced {output}\n")


def test_published_reports_are_read_with_every_reply(real_data: Callable[[str], Path]) -> None:
    name = "reports/sft-4.2023-04-03_andreaskoepf_oasst-sft-4-pythia-12b-epoch-3_5_sampling_noprefix_lottery.json"
    report = read_report(real_data(name))
    assert report is not None
    assert (report.model, len(report.prompts)) == ("andreaskoepf/oasst-sft-4-pythia-12b-epoch-3.5", 250)
    assert sum(len(outputs) for each in report.prompts for outputs in each.outputs.values()) == 250 * 11
    assert not any("<|endoftext|>" in text for each in report.prompts for text in each.outputs["greedy"])


def test_ends_are_taken_off_the_end_alone() -> None:
    assert without_end("a </s> b<|endoftext|></s>") == "a </s> b"
    assert without_end("") == without_end("<|endoftext|>") == ""


def long_talk(path: Path) -> Path:
    return write(path, talk("Say red.", "red " * 3000), talk("Say red.", "red"))


def unanswered(path: Path) -> Path:
    return write(path, {"messages": [*talk("a", "b")["messages"], {"role": "user", "content": "c"}]})


def changed_report(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    report = json.loads(json.dumps(REPORT))
    change(report)
    path.write_text(json.dumps(report, indent=1))
    return path


CASES: dict[str, tuple[Callable[[Path], object], type[TunesmithError], str]] = {
    "a thread that is too long": (
        lambda root: long_talk(root / "a.jsonl"),
        DataError,
        r"a\.jsonl:1: prompt and reply have [\d,]+ tokens, but the reward model reads at most 2,048; .*"
        r"--skip leaves such records out",
    ),
    "a conversation that ends with the user": (
        lambda root: unanswered(root / "a.jsonl"),
        DataError,
        r"a\.jsonl:1: the conversation does not end with a reply; only replies are scored",
    ),
    "an empty turn": (
        lambda root: write(root / "a.jsonl", talk("a", " ")),
        DataError,
        r"a\.jsonl:1: .*empty",
    ),
    "rows of another kind": (
        lambda root: write(root / "a.jsonl", {"instruction": "a", "response": "b"}),
        DataError,
        r"field 'messages' is missing",
    ),
    "no such file": (lambda root: root / "nothing.jsonl", MissingInputError, "does not exist"),
    "a report without outputs": (
        lambda root: changed_report(root / "a.json", lambda report: report.update(prompts=[])),
        DataError,
        "the report has no outputs",
    ),
    "a report of something else": (
        lambda root: changed_report(root / "a.json", lambda report: report["prompts"].append({"prompt": "a"})),
        DataError,
        r"prompts\[2\] is not an object with prompt and results",
    ),
    "an output that is no text": (
        lambda root: changed_report(
            root / "a.json", lambda report: report["prompts"][0]["results"][0].update(outputs=[3])
        ),
        DataError,
        r"prompts\[0\]\.results\[0\]\.outputs\[0\] is a number, not text",
    ),
    "a report that breaks off": (
        lambda root: (root / "a.json").write_text(json.dumps(REPORT, indent=1)[:200]) and root / "a.json",
        DataError,
        r"a\.json: ",
    ),
    "a reply of a report that is too long": (
        lambda root: changed_report(
            root / "a.json", lambda report: report["prompts"][1]["results"][0].update(outputs=["red " * 3000])
        ),
        DataError,
        r"a\.json: prompts\[1\], k50 0: prompt and reply have",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_cannot_be_scored_is_one_clear_error(world: Path, tmp_path: Path, case: str) -> None:
    make, kind, message = CASES[case]
    path = make(tmp_path)
    with pytest.raises(kind, match=message):
        score(world, path)


def test_rows_of_another_kind_name_the_reader_that_reads_them(world: Path, tmp_path: Path) -> None:
    rows = [{"instruction": "Say red.", "context": "It is red.", "response": word} for word in ("red", "blue")]
    path = write(tmp_path / "a.jsonl", *rows)
    with pytest.raises(DataError, match=r"name the reader: (--.*); --skip leaves") as caught:
        score(world, path)
    words = re.findall(r"--reader (\w+)", str(caught.value))
    found, _ = score(world, path, reading=ReaderChoice(*words))
    assert len(found.splitlines()) == 2
    (tmp_path / "b.jsonl").write_text("{broken\n")
    with pytest.raises(DataError, match=r"b\.jsonl:1: not JSON: "):
        score(world, tmp_path / "b.jsonl")


def test_what_cannot_be_scored_can_be_left_out_and_is_counted(world: Path, tmp_path: Path) -> None:
    found, log = score(world, long_talk(tmp_path / "a.jsonl"), skip=True)
    assert [json.loads(line)["messages"][1]["content"] for line in found.splitlines()] == ["red"]
    assert "not scored: " in log
    assert "a.jsonl:1: prompt and reply have" in log
    make, _, _ = CASES["a reply of a report that is too long"]
    report = json.loads(score(world, make(tmp_path), skip=True)[0])
    assert (report["unscored"], report["scores"][1]["k50"]) == (1, [None])
    with pytest.raises(MissingInputError, match="there is nothing to score"):
        score(world, unanswered(tmp_path / "b.jsonl"), skip=True)


def test_records_and_reports_are_not_mixed(world: Path, tmp_path: Path) -> None:
    report, talks = write(tmp_path / "report.json", REPORT), write(tmp_path / "a.jsonl", talk("a", "b"))
    with pytest.raises(UsageError, match="some inputs are sampling reports, others are not"):
        score(world, report, talks)


def test_the_best_and_the_worst_reply_by_score_become_a_pair(world: Path, tmp_path: Path) -> None:
    plain = json.dumps(REPORT).replace("<|endoftext|>", "")
    (tmp_path / "report.json").write_text(plain)
    found, log = score(world, tmp_path / "report.json", output=tmp_path / "pairs.jsonl", kind="preferences")
    scores = {text: stock_score(world, "Say red.", text) for text in ("red red", "blue", "red")}
    (pair,) = [json.loads(line) for line in (tmp_path / "pairs.jsonl").read_text().splitlines()]
    best, worst = max(scores, key=lambda text: scores[text]), min(scores, key=lambda text: scores[text])
    assert (pair["chosen"], pair["rejected"]) == (
        talk("Say red.", best)["messages"],
        talk("Say red.", worst)["messages"],
    )
    assert pair["margin"] == pytest.approx(scores[best] - scores[worst], abs=1e-5)
    assert found == ""
    assert "  prompts without a pair: 1 (fewer than two usable replies: 1)" in log


def test_what_cannot_be_written_is_refused_before_a_model_is_loaded(tmp_path: Path) -> None:
    report, talks = write(tmp_path / "report.json", REPORT), write(tmp_path / "a.jsonl", talk("a", "b"))
    nothing = str(tmp_path / "no model")
    with pytest.raises(UsageError, match="--write trees needs a name for what it writes"):
        run(nothing, [str(report)], kind="trees")
    with pytest.raises(UsageError, match="--write trees needs sampling reports, and there are none"):
        run(nothing, [str(talks)], kind="trees", output=tmp_path / "out")
    with pytest.raises(MissingInputError, match=r"absent\.json: there is no such file"):
        run(nothing, [str(tmp_path / "absent.json")], kind="trees", output=tmp_path / "out")
    with pytest.raises(UsageError, match="--keep has no effect on scores"):
        run(nothing, [str(report)], keep=3)
    with pytest.raises(UsageError, match="--keep has no effect on preferences"):
        run(nothing, [str(report)], keep=3, kind="preferences", output=tmp_path / "out")
    with pytest.raises(UsageError, match="this file is read and would be overwritten"):
        run(nothing, [str(report)], kind="report", output=report)
    selected = write(tmp_path / "selected_samples.json", REPORT)
    with pytest.raises(UsageError, match="this file is read and would be overwritten"):
        run(nothing, [str(selected)], kind="selection", output=tmp_path)


def test_models_that_do_not_fit_are_refused(world: Path, tmp_path: Path) -> None:
    talks = write(tmp_path / "a.jsonl", talk("a", "b"))
    with pytest.raises(UsageError, match="this model was trained with prompt format 'oasst', not 'dolly'"):
        score(world, talks, format="dolly")
    with pytest.raises(RecipeError, match="there is no reader 'mesages'"):
        score(world, talks, reading=ReaderChoice("mesages"))
    small_model("llama").save_pretrained(tmp_path / "causal")
    with pytest.raises(DataError, match="without a head that scores"):
        run(str(tmp_path / "causal"), [str(talks)])
    shutil.copytree(world / "run" / "export", tmp_path / "mixed")
    content = json.loads((tmp_path / "mixed" / "tokenizer.json").read_text())
    last = max(token["id"] for token in content["added_tokens"])
    more = [{**content["added_tokens"][-1], "id": last + 1 + n, "content": f"<extra {n}>"} for n in range(40)]
    content["added_tokens"] += more
    (tmp_path / "mixed" / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"the tokenizer has \d+ tokens, but the reward model has embeddings for \d+"):
        run(str(tmp_path / "mixed"), [str(talks)])
