"""`tunesmith sample --best-of`: replies are sampled and scored, and the best of them become data to train on."""

from __future__ import annotations

import io
import json
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.apps.sampled_models import write_causal
from tests.reward_worlds import judge_recipe
from tests.worlds import small_recipe, write_preferences
from tunesmith.apps.best_of import BestOfSettings, run
from tunesmith.apps.report_rewards import assign_rewards, read_rewards
from tunesmith.apps.sample import SampleSettings
from tunesmith.apps.sampling_reports import SamplingReport, read_report
from tunesmith.compose import train_recipe
from tunesmith.errors import MissingInputError, UsageError
from tunesmith.evaluate.reward_scorer import RewardScorer, open_reward_scorer
from tunesmith.files import write_json
from tunesmith.text.tree import Message, Tree

DAY = datetime(2026, 3, 4)
PROMPTS = [f"Say red {number}." for number in range(8)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the model ``assistant``, the reward model ``run`` and what is sampled."""
    root = tmp_path_factory.mktemp("best of")
    train_recipe(judge_recipe(root, ["train.steps=3"]))
    write_causal(root / "assistant")
    records: list[dict[str, Any]] = [{"prompt": text} for text in PROMPTS]
    for text in PROMPTS[:4]:
        turns = (("user", text), ("assistant", "red"), ("user", "Again."))
        records.append({"messages": [{"role": role, "content": content} for role, content in turns]})
    (root / "prompts.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    default = {"generate_args": {"do_sample": True, "max_new_tokens": 8}}
    write_json(root / "mine.json", {"default": default, "configurations": [{"name": "all", "generate_args": {}}]})
    return root


def sampled(
    world: Path, output: Path, sampling: str = "mine.json", mode: str | None = None, **choice: Any
) -> tuple[Path, str]:
    """(what is written, what is printed)."""
    target = io.StringIO()
    files = (str(world / sampling),)
    settings = SampleSettings(str(world / "prompts.jsonl"), files, samples=4, batch_size=16, mode=mode)
    best = BestOfSettings(**{"scorer": str(world / "run"), **choice})
    more = {"target": target, "errors": io.StringIO(), "now": lambda: DAY}
    (path,) = run([str(world / "assistant")], settings, output, best, **more)
    return path, target.getvalue()


def report_of(path: Path) -> SamplingReport:
    found = read_report(path)
    assert found is not None
    return found


def test_every_chosen_reply_has_the_highest_score_of_those_that_ended(world: Path, tmp_path: Path) -> None:
    path, printed = sampled(world, tmp_path)
    name = "2026-03-04_assistant_sampling_mine"
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        f"{name}.json",
        f"{name}_best.json",
        f"{name}_scores.json",
    ]
    report, scorer = report_of(tmp_path / f"{name}.json"), open_reward_scorer(world / "run")
    assert assign_rewards(read_rewards(tmp_path / f"{name}_scores.json"), [report])[0] is not None
    chosen = {replies.prompt: replies.outputs["best_of_4"][0] for replies in report_of(path).prompts}
    assert len(chosen) > 3
    for replies in report.prompts:
        ended = [
            text for text, end in zip(replies.outputs["all"], replies.ended["all"], strict=True) if end and text.strip()
        ]
        trees = [Tree.path([*replies.conversation, Message("assistant", text)]) for text in ended]
        scores = [each.threads[0] for each in scorer.scores(scorer.render(trees))]  # type: ignore[arg-type]
        best = max(scores, default=None)
        found = [score for text, score in zip(ended, scores, strict=True) if text == chosen.get(replies.prompt)]
        assert (best is None) == (replies.prompt not in chosen)
        assert found == [] if best is None else found[0] == pytest.approx(best, abs=1e-4)
    assert "best of n, n =" in printed
    assert f"wrote {path}: the best reply to each of {len(chosen)} prompts" in printed


def test_a_second_call_changes_no_byte(world: Path, tmp_path: Path) -> None:
    sampled(world, tmp_path, kind="trees")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    sampled(world, tmp_path, kind="trees")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_pairs_of_sampled_replies_train_a_recipe_of_dpo(world: Path, tmp_path: Path) -> None:
    path, printed = sampled(world, tmp_path / "out", kind="preferences")
    pairs = [json.loads(line) for line in path.read_text().splitlines()]
    assert {len(pair["chosen"]) for pair in pairs} == {2, 4}
    assert all(pair["margin"] > 0 for pair in pairs)
    assert f"next: tunesmith init {path} --model MODEL" in printed
    write_preferences(tmp_path, records=6)
    source = f"data.sources=[{{path: {json.dumps(str(path))}, reader: preference}}]"
    settings = [source, "train.steps=2", "train.evaluate_every=null", "data.validation=0", "text.max_length=400"]
    run_directory = train_recipe(small_recipe(tmp_path, settings)).directory
    steps = [json.loads(line) for line in (run_directory / "metrics.jsonl").read_text().splitlines()]
    assert any("rewards/accuracies" in name for line in steps for name in line)


def test_replies_that_the_reward_model_cannot_read_are_left_out_and_counted(world: Path, tmp_path: Path) -> None:
    shutil.copytree(world / "run" / "export", tmp_path / "short")
    config = json.loads((tmp_path / "short" / "config.json").read_text())
    (tmp_path / "short" / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 20}))
    path, printed = sampled(world, tmp_path / "out", scorer=str(tmp_path / "short"))
    assert "replies were skipped" in printed
    assert 0 < len(report_of(path).prompts) < len(PROMPTS)


TWO = [{"name": "brief", "pre_text": "Be brief."}, {"name": "kind", "pre_text": "Be kind."}]
PROFILES = [{"name": f"humor_{humor}", "system_profile": {"humor": humor, "lang": "de"}} for humor in (0.1, 0.9)]


def write_configurations(world: Path, name: str, configurations: list[dict[str, Any]]) -> str:
    default = {"generate_args": {"do_sample": True, "max_new_tokens": 8}}
    write_json(world / name, {"default": default, "configurations": configurations})
    return name


def thread_scores(scorer: RewardScorer, conversations: list[tuple[Message, ...]]) -> list[float]:
    trees = scorer.render([Tree.path(each) for each in conversations])
    return [each.threads[0] for each in scorer.scores(trees)]  # type: ignore[arg-type]


def test_pairs_and_scores_have_the_system_text_that_the_replies_answer(world: Path, tmp_path: Path) -> None:
    name = write_configurations(world, "two.json", TWO)
    path, _ = sampled(world, tmp_path, name, kind="preferences")
    pairs = [json.loads(line) for line in path.read_text().splitlines()]
    assert {pair["chosen"][0]["content"] for pair in pairs} == {"Be brief.", "Be kind."}
    assert all(pair[side][0]["role"] == "system" for pair in pairs for side in ("chosen", "rejected"))
    assert all(pair["chosen"][:-1] == pair["rejected"][:-1] for pair in pairs)

    report, scorer = report_of(tmp_path / "2026-03-04_assistant_sampling_two.json"), open_reward_scorer(world / "run")
    (rewards,) = read_rewards(tmp_path / "2026-03-04_assistant_sampling_two_scores.json")
    for replies, scores in zip(report.prompts, rewards.scores, strict=True):
        for each in TWO:
            system = Message("system", each["pre_text"])
            asked = (system, *replies.conversation)
            threads = [(*asked, Message("assistant", text)) for text in replies.outputs[each["name"]]]
            assert list(scores[each["name"]]) == pytest.approx(thread_scores(scorer, threads), abs=1e-4)


def test_the_best_replies_to_different_system_texts_are_those_of_different_configurations(
    world: Path, tmp_path: Path
) -> None:
    name = write_configurations(world, "two.json", TWO)
    best = report_of(sampled(world, tmp_path, name)[0])
    sampled_report = report_of(tmp_path / "2026-03-04_assistant_sampling_two.json")
    assert {each: best.addition(each).pre_text for each in ("best_of_4_1", "best_of_4_2")} == {
        "best_of_4_1": "Be brief.",
        "best_of_4_2": "Be kind.",
    }
    texts = {replies.prompt: replies.outputs for replies in sampled_report.prompts}
    assert any(len(replies.outputs) == 2 for replies in best.prompts)
    for replies in best.prompts:
        for chosen, own in (("best_of_4_1", "brief"), ("best_of_4_2", "kind")):
            assert set(replies.outputs.get(chosen, ())) <= set(texts[replies.prompt][own])


def test_trees_have_the_profile_that_the_replies_answer(world: Path, tmp_path: Path) -> None:
    name = write_configurations(world, "profiles.json", PROFILES)
    path, _ = sampled(world, tmp_path, name, "v2_5", kind="trees")
    found = [json.loads(line)["prompt"]["replies"] for line in path.read_text().splitlines()]
    assert all(len({json.dumps(reply["labels"]) for reply in replies}) == 1 for replies in found)
    labels = {reply["labels"]["humor"]["value"] for replies in found for reply in replies}
    assert labels == {0.1, 0.9}
    assert {reply["lang"] for replies in found for reply in replies} == {"de"}


def test_what_cannot_score_is_refused_before_anything_is_sampled(world: Path, tmp_path: Path) -> None:
    def fault(scorer: Path, **choice: Any) -> str:
        settings = SampleSettings(str(tmp_path / "no prompts"))
        with pytest.raises((UsageError, MissingInputError)) as caught:
            run(["no model"], settings, tmp_path, BestOfSettings(str(scorer), **choice))
        return str(caught.value)

    assert "there is no such directory" in fault(tmp_path / "nothing")
    assert "this is not a reward model" in fault(world / "assistant")
    assert "--keep has no effect on preferences" in fault(world / "run", kind="preferences", keep=2)
    shutil.copytree(world / "run" / "export", tmp_path / "foreign")
    (tmp_path / "foreign" / "tunesmith.json").unlink()
    assert "the reward model does not declare its prompt format" in fault(tmp_path / "foreign")
