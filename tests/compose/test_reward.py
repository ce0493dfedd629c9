"""Whole runs of reward models: they learn, resume to the bit, and stock transformers scores with the export."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tests.reward_worlds import END, judge_recipe, write_rankings
from tests.runs import digests
from tests.text.small_tokenizers import prefixed, write_tokenizer
from tunesmith.compose import train_recipe
from tunesmith.compose.check.recipe import collect_checks
from tunesmith.compose.methods import reward as reward_module
from tunesmith.compose.methods import reward_gates
from tunesmith.errors import DataError, InternalError, MissingInputError, RecipeError, StoppedError, UsageError
from tunesmith.generate.export_directory import open_engine, read_export
from tunesmith.model.reward_model import head_of, load_reward_model


@pytest.fixture(scope="module", params=["gpt_neox", "llama"])
def root(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world with its finished run."""
    world = tmp_path_factory.mktemp(request.param)
    train_recipe(judge_recipe(world, architecture=request.param))
    return world


def records(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def evaluations(run: Path) -> dict[int, dict[str, dict[str, float]]]:
    return {record["step"]: record["validation"] for record in records(run) if "validation" in record}


def test_it_learns_the_order_of_replies_it_has_not_seen(root: Path) -> None:
    found = evaluations(root / "run")
    assert list(found[30]) == ["pairs", "lists", "all"]
    assert found[0]["all"]["accuracy"] < 0.8
    for source in ("pairs", "lists", "all"):
        assert found[30][source]["accuracy"] > 0.85
    assert found[30]["lists"]["kendall_tau"] > 0.7
    assert found[30]["all"]["loss"] < 0.45 < found[0]["all"]["loss"]
    assert found[30]["lists"]["pairs"] == 3 * found[30]["lists"]["groups"]
    assert found[30]["all"]["groups"] == found[30]["lists"]["groups"] + found[30]["pairs"]["groups"] == 16


def test_the_record_of_a_step_has_the_measures_of_pairs(root: Path) -> None:
    step = next(record for record in records(root / "run") if "learning_rate" in record)
    assert {"loss", "accuracy", "margin", "score/chosen", "score/rejected"} < step.keys()
    assert step["units"] == 8


def test_the_export_is_a_reward_model_that_stock_transformers_scores_with(root: Path) -> None:
    directory = root / "run" / "export"
    info = read_export(directory)
    assert info is not None
    assert (info.kind, info.format, info.steps) == ("reward", "oasst", 30)
    stock = AutoModelForSequenceClassification.from_pretrained(directory).eval()
    tokenizer = AutoTokenizer.from_pretrained(directory)
    talks = [
        [{"role": "user", "content": "Say something red, 99."}, {"role": "assistant", "content": text}]
        for text in ("red red red red", "blue old", "red blue red red")
    ]
    batch = tokenizer.apply_chat_template(talks, tokenize=True, padding=True, return_dict=True, return_tensors="pt")
    with torch.no_grad():
        scores = stock(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, 0].tolist()
    assert scores[0] > scores[2] > scores[1]
    with pytest.raises(UsageError, match="is a reward model"):
        open_engine(root / "run")


RESUMED = ["train.steps=8", "train.evaluate_every=3", "train.save_every=4", "data.validation=8"]


@pytest.mark.parametrize(
    ("architecture", "extra"),
    [("gpt_neox", []), ("llama", ["model.residual_dropout=0.1", "model.gradient_checkpointing=true"])],
)
def test_a_stopped_run_ends_as_if_never_stopped(architecture: str, extra: list[str], tmp_path: Path) -> None:
    """Over 24 records, so that epochs of three steps end before, at and after the stops."""
    write_rankings(tmp_path, architecture=architecture, records=16)
    whole = train_recipe(judge_recipe(tmp_path, [*RESUMED, *extra])).directory
    stopped = [*RESUMED, *extra, f"run.directory={tmp_path}/stopped"]
    for stop in (1, 3, 4, 5):
        with pytest.raises(StoppedError):
            train_recipe(judge_recipe(tmp_path, [*stopped, f"train.stop_after={stop}"]))
    train_recipe(judge_recipe(tmp_path, stopped))
    assert digests(tmp_path / "stopped") == digests(whole)
    assert evaluations(tmp_path / "stopped") == evaluations(whole)


def test_a_reward_model_goes_on_with_its_head(root: Path) -> None:
    overrides = ["model.init=null", f"model.path={root}/run/export", "model.tokenizer=null", "train.steps=1"]
    run = train_recipe(judge_recipe(root, [*overrides, f"run.directory={root}/on"])).directory
    assert evaluations(run)[0]["all"] == pytest.approx(evaluations(root / "run")[30]["all"])


def test_a_causal_export_becomes_a_reward_model(tmp_path: Path) -> None:
    write_rankings(tmp_path)
    best = [f"data.sources.{n}.options.replies=best" for n in (0, 1)]
    causal = [
        "objective.kind=sft",
        "train.steps=2",
        "train.best.metrics=[{name: validation/loss, mode: min}]",
        *best,
        f"run.directory={tmp_path}/sft",
    ]
    trained = train_recipe(judge_recipe(tmp_path, causal))
    overrides = ["model.init=null", f"model.path={trained.export}", "model.tokenizer=null", "train.steps=1"]
    run = train_recipe(
        judge_recipe(tmp_path, [*overrides, "train.learning_rate=1e-30", f"run.directory={tmp_path}/rm"])
    )
    model = load_reward_model(str(run.export))
    assert head_of(model).weight.std().item() == pytest.approx(33**-0.5, rel=0.4)


def test_a_head_of_zeros_begins_at_ln_2(tmp_path: Path) -> None:
    run = train_recipe(judge_recipe(tmp_path, ["objective.head_std=0", "train.steps=1"])).directory
    assert evaluations(run)[0]["all"]["loss"] == pytest.approx(math.log(2), abs=1e-9)
    assert evaluations(run)[0]["all"]["accuracy"] == 0.0  # a tie is not in order


def test_margins_of_the_data_are_taken_from_the_difference_of_scores(tmp_path: Path) -> None:
    wide = ["objective.margin_scale=0.5", "objective.head_std=0", "train.steps=1"]
    run = train_recipe(judge_recipe(tmp_path, wide)).directory
    assert evaluations(run)[0]["all"]["loss"] > 1.0


@pytest.mark.parametrize("fault", ["another end", "padding that ends replies"])
def test_a_reply_that_scores_otherwise_alone_stops_the_run_before_a_weight_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    loaded = judge_recipe(tmp_path)
    if fault == "another end":
        original = reward_gates.visible_ids
        monkeypatch.setattr(reward_gates, "visible_ids", lambda batch, ends: original(batch, [end - 1 for end in ends]))
    else:
        monkeypatch.setattr(reward_module, "padding_id", lambda renderer: renderer.tokenizer.eos_id)
    with pytest.raises(InternalError, match="scores of single replies"):
        train_recipe(loaded)
    assert not list((tmp_path / "run" / "checkpoints").glob("step-*"))


def rewrite(root: Path, **fields: str) -> None:
    path = root / "pairs.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps({**row, **fields}) + "\n" for row in rows))


def test_bad_rankings_are_refused_before_training(tmp_path: Path) -> None:
    write_rankings(tmp_path / "empty")
    rewrite(tmp_path / "empty", rejected=" ")
    with pytest.raises(DataError, match=r"pairs\.jsonl:1.*'rejected' is empty"):
        train_recipe(judge_recipe(tmp_path / "empty"))
    write_rankings(tmp_path / "tied")
    path = tmp_path / "tied" / "lists.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        for completion in row["completions"]:
            completion["annotations"]["honesty"]["Rating"] = "3"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    only = [
        f"data.sources=[{{path: {path}, reader: ultrafeedback}}]",
        "train.best.metrics=[{name: validation/loss, mode: min}]",
    ]
    with pytest.raises(MissingInputError, match="all replies tie"):
        train_recipe(judge_recipe(tmp_path / "tied", only))


def test_prompts_that_fill_the_context_leave_nothing_to_compare(tmp_path: Path) -> None:
    for truncation in ("drop", "right"):
        with pytest.raises(MissingInputError, match=r"nothing is left|longer than the limit|no two replies"):
            train_recipe(judge_recipe(tmp_path, ["text.max_length=8", f"text.truncation={truncation}"]))


def test_a_reward_model_is_not_gone_on_with_in_another_language(root: Path) -> None:
    base = ["model.init=null", f"model.path={root}/run/export", f"run.directory={root}/other"]
    message = r"text\.format: .*export was trained with prompt format 'oasst', this recipe uses 'dolly'"
    with pytest.raises(RecipeError, match=message):
        train_recipe(judge_recipe(root, [*base, "model.tokenizer=null", "text.format=dolly"]))
    write_tokenizer(root / "another", prefixed(), bos="<s>", eos="</s>", unk="<unk>")
    with pytest.raises(RecipeError, match=r"model\.tokenizer: .*export has another tokenizer than"):
        train_recipe(judge_recipe(root, [*base, f"model.tokenizer={root}/another"]))


def test_the_end_of_text_is_no_padding(root: Path) -> None:
    config = json.loads((root / "run" / "export" / "tokenizer_config.json").read_text())
    assert config["pad_token"] not in (END, None)


@pytest.mark.parametrize("truncation", ["left", "window"])
def test_replies_that_are_compared_are_not_cut_apart(tmp_path: Path, truncation: str) -> None:
    with pytest.raises(RecipeError, match=r"text\.truncation: .*would separate the replies that objective reward"):
        judge_recipe(tmp_path, [f"text.truncation={truncation}"])


def test_the_best_checkpoint_by_accuracy_can_be_exported(tmp_path: Path) -> None:
    run = train_recipe(judge_recipe(tmp_path, ["train.steps=9", "run.export=best"])).directory
    found = evaluations(run)
    info = read_export(run / "export")
    assert info is not None
    assert info.steps in (7, 9)
    assert found[info.steps]["all"]["accuracy"] == max(found[step]["all"]["accuracy"] for step in (7, 9))


def test_threads_read_by_themselves_train_as_trees_do(tmp_path: Path) -> None:
    runs = []
    for layout in ("tree", "threads"):
        overrides = [f"model.layout={layout}", "train.steps=4", f"run.directory={tmp_path}/{layout}"]
        runs.append(evaluations(train_recipe(judge_recipe(tmp_path, overrides)).directory))
    tree, threads = runs
    for step in tree:
        assert threads[step]["all"] == pytest.approx(tree[step]["all"], rel=1e-3, abs=1e-3)


def test_the_check_and_every_optimizer_know_reward_models(tmp_path: Path) -> None:
    checked = collect_checks(judge_recipe(tmp_path), lambda done, total, label: None)
    assert checked.exit_code == 0
    assert "attention" in [check.name for check in checked.report.checks if check.status == "pass"]
    for kind in ("muon", "adafactor"):
        overrides = [f"train.optimizer.kind={kind}", "train.steps=4", f"run.directory={tmp_path}/{kind}"]
        found = evaluations(train_recipe(judge_recipe(tmp_path, overrides)).directory)
        assert found[4]["all"]["loss"] < found[0]["all"]["loss"]


@pytest.mark.parametrize(
    ("accuracy", "groups", "status"),
    [(0.5, 8, "pass"), (0.9, 8, "pass"), (0.9, 64, "warn"), (0.1, 64, "warn"), (0.0, 64, "pass"), (1.0, 16, "warn")],
)
def test_a_new_head_that_already_knows_the_order_is_a_warning(accuracy: float, groups: float, status: str) -> None:
    assert reward_gates.new_head_gate(accuracy, groups).status == status
