"""Rejection sampling: which replies are chosen, and that our readers and recipes take what is written."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.apps.reports import Prompts, write_report
from tests.worlds import small_recipe, write_preferences
from tunesmith.apps.compare import read_comparison
from tunesmith.apps.prompt_additions import NO_ADDITION, PromptAddition
from tunesmith.apps.rejection_files import READING_TREES, REJECTION_KINDS, ScoredReports, write_rejections
from tunesmith.apps.rejection_sampling import ScoredPrompt, ScoredReply, rejection_tree, spread
from tunesmith.apps.sampling_reports import SamplingReport, read_report
from tunesmith.compose import train_recipe
from tunesmith.data.readers.recognition import Recognised, first_rows, recognise
from tunesmith.data.readers.registry import open_reader
from tunesmith.errors import MissingInputError, UsageError
from tunesmith.text.tree import Message

END = "<|endoftext|>"


def report_of(path: Path, prompts: Prompts, model: str = "m", end_tokens: Sequence[str] = ()) -> SamplingReport:
    found = read_report(write_report(path, model, prompts, end_tokens))
    assert found is not None
    return found


def scored_by_length(*reports: SamplingReport) -> ScoredReports:
    """Scores as if a reward model counted characters."""
    tables = [
        [
            {name: [float(len(text)) for text in texts] for name, texts in each.outputs.items()}
            for each in report.prompts
        ]
        for report in reports
    ]
    return ScoredReports.of(reports, tables, "judge")


def written(path: Path) -> Any:
    return json.loads(path.read_text())


def lines_of(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def chat(prompt: str, reply: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": reply}]


def test_a_selection_is_what_the_original_writes(tmp_path: Path) -> None:
    """As rejection_sampling.py: the best first, the others from the worst on, scores as texts with two digits."""
    prompts = [("Q", {"k50": ["aa", "aaaa", "a"], "greedy": ["aaa", "aaaaa"]}), ("R", {"k50": ["b", ""]})]
    scored = scored_by_length(report_of(tmp_path / "a.json", prompts))
    lines = write_rejections("selection", scored, tmp_path / "out")
    assert written(tmp_path / "out" / "selected_samples.json") == [
        {"prompt": "Q", "outputs": [["aaaaa", "5.0"], ["aaaa", "4.0"], ["aaa", "3.0"]]},
        {"prompt": "R", "outputs": [["b", "1.0"], ["", "0.0"]]},
    ]
    assert written(tmp_path / "out" / "rejected_samples.json") == [
        {"prompt": "Q", "outputs": [["a", "1.0"], ["aa", "2.0"]]},
        {"prompt": "R", "outputs": []},
    ]
    text = (tmp_path / "out" / "comparison.json").read_text()
    assert text == json.dumps(
        {
            "rejected_samples": {"mean": "1.5", "min": "1.0", "max": "2.0"},
            "selected_samples": {"mean": "2.6", "min": "0.0", "max": "5.0"},
        },
        indent=4,
    )
    assert lines[1:] == [
        "  selected_samples 5 replies, mean score 2.6000",
        "  rejected_samples 2 replies, mean score 1.5000",
    ]


def test_scores_are_written_with_two_digits_as_the_statistics_are(tmp_path: Path) -> None:
    report = report_of(tmp_path / "a.json", [("Q", {"k": ["a", "b"]})])
    scored = ScoredReports.of([report], [[{"k": [0.125, -1.0049]}]], "judge")
    write_rejections("selection", scored, tmp_path / "out", keep=1)
    assert written(tmp_path / "out" / "selected_samples.json")[0]["outputs"] == [["a", "0.12"]]
    assert written(tmp_path / "out" / "comparison.json")["rejected_samples"]["mean"] == "-1.0"


def test_the_statistics_are_those_of_the_published_example(tmp_path: Path) -> None:
    """The scores in Open-Assistant's sample_results: seven replies to each of five prompts, and its comparison."""
    scores = [
        [0.26, -0.36, -0.46, -0.5, -0.9, -0.91, -1.62],
        [-1.17, -1.43, -2.08, -2.33, -2.51, -2.75, -2.9],
        [-0.28, -0.46, -0.48, -0.62, -1.15, -1.28, -1.34],
        [-0.37, -0.41, -0.95, -0.99, -1.19, -3.12, -3.12],
        [-2.55, -2.75, -2.82, -2.82, -2.82, -2.82, -2.82],
    ]
    report = report_of(tmp_path / "a.json", [(f"Q{n}", {"k": [str(m) for m in range(7)]}) for n in range(5)])
    write_rejections("selection", ScoredReports.of([report], [[{"k": each} for each in scores]], "judge"), tmp_path)
    assert written(tmp_path / "comparison.json") == {
        "rejected_samples": {"mean": "-1.9255", "min": "-3.12", "max": "-0.5"},
        "selected_samples": {"mean": "-1.0873333333333335", "min": "-2.82", "max": "0.26"},
    }


@pytest.mark.parametrize("kind", ["preferences", "trees", "report"])
def test_nothing_is_made_of_a_report_in_which_every_reply_was_cut(tmp_path: Path, kind: str) -> None:
    """Such a report has no end token in any reply; it shows by the names of its end tokens that none has ended."""
    scored = scored_by_length(report_of(tmp_path / "a.json", [("Q", {"k": ["b", "bbb"]})], end_tokens=["<|im_end|>"]))
    with pytest.raises(MissingInputError, match="cut at the limit: 2; sample with a larger --max-new-tokens"):
        write_rejections(kind, scored, tmp_path / "out.json")
    assert not (tmp_path / "out.json").exists()


def test_a_report_has_the_best_reply_and_is_compared_like_any_other(tmp_path: Path) -> None:
    prompts = [(f"Q{number}", {"k": [f"b{END}", f"bbb{END}", "cut" * 9]}) for number in range(3)]
    path = write_report(tmp_path / "a.json", "m", [*prompts, ("R", {"k": ["cut"]})])
    report = read_report(path)
    assert report is not None
    lines = write_rejections("report", scored_by_length(report), tmp_path / "best.json")
    best = read_report(tmp_path / "best.json")
    assert best is not None
    assert [replies.outputs for replies in best.prompts] == [{"best_of_3": ("bbb",)}] * 3
    assert best.parameters == {"best_of_3": {"best_of": 3, "reward_model": "judge"}}
    comparison = read_comparison([path, tmp_path / "best.json"])
    assert comparison.shared_prompts() == 3
    assert {reply.ended for prompt in comparison.prompts for reply in prompt.replies if reply.model} == {True}
    assert lines == [
        f"wrote {tmp_path}/best.json: the best reply to each of 3 prompts",
        "  replies left out: 4 (cut at the limit: 4)",
    ]


TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]
CALL = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "weather", "arguments": "{}"}}]}
CONVERSATIONS: Sequence[dict[str, Any]] = (
    {"prompt": "Q"},
    {"prompt": "User: Q", "messages": [{"role": "user", "content": "Q"}]},
    {"prompt": "System: s", "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "Q"}]},
    {"prompt": "User: Q", "messages": [{"role": "user", "content": "Q"}], "tools": TOOLS},
    {
        "prompt": "User: Q",
        "messages": [{"role": "user", "content": "Q"}, CALL, {"role": "tool", "content": "sun", "name": "weather"}],
        "tools": TOOLS,
    },
)


def conversation_report(path: Path, prompts: Sequence[dict[str, Any]]) -> SamplingReport:
    """A report with the replies "a" and "bb" to every prompt."""
    results = [{"sampling_config": "k", "sampling_params": {}, "outputs": ["a", "bb"]}]
    path.write_text(json.dumps({"model_name": "m", "prompts": [{**each, "results": results} for each in prompts]}))
    found = read_report(path)
    assert found is not None
    return found


@pytest.mark.parametrize("prompt", CONVERSATIONS)
def test_a_report_of_the_best_replies_keeps_the_conversation(tmp_path: Path, prompt: dict[str, Any]) -> None:
    """Otherwise a reward model reads another prompt and gives the same reply another score."""
    report = conversation_report(tmp_path / "a.json", [prompt])
    write_rejections("report", scored_by_length(report), tmp_path / "best.json")
    best = read_report(tmp_path / "best.json")
    assert best is not None
    assert [(each.prompt, each.conversation) for each in best.prompts] == [
        (each.prompt, each.conversation) for each in report.prompts
    ]


def test_equal_texts_with_other_tools_are_other_prompts(tmp_path: Path) -> None:
    other = json.loads(json.dumps(TOOLS).replace("weather", "stocks"))
    asked = {"prompt": "User: Q", "messages": [{"role": "user", "content": "Q"}]}
    prompts: list[dict[str, Any]] = [asked, {**asked, "tools": TOOLS}, {**asked, "tools": other}]
    scored = scored_by_length(conversation_report(tmp_path / "a.json", [*prompts, prompts[1]]))
    assert [len(prompt.replies) for prompt in scored.prompts] == [2, 4, 2]
    write_rejections("preferences", scored, tmp_path / "pairs.jsonl")
    assert [pair.get("tools") for pair in lines_of(tmp_path / "pairs.jsonl")] == [None, TOOLS, other]
    trees = [rejection_tree(prompt) for prompt in scored.prompts]
    assert [tree if isinstance(tree, str) else "" for tree in trees] == [
        "",
        *["a message that the trees cannot have"] * 2,
    ]


def test_replies_of_several_reports_and_configurations_compete(tmp_path: Path) -> None:
    first = report_of(tmp_path / "a.json", [("Q", {"k": ["aa", "aaa"]})], "one")
    second = report_of(tmp_path / "b.json", [("Q", {"greedy": ["a"]}), ("R", {"greedy": ["b"]})], "two")
    scored = scored_by_length(first, second)
    assert [[reply.text for reply in prompt.replies] for prompt in scored.prompts] == [["aaa", "aa", "a"], ["b"]]
    write_rejections("preferences", scored, tmp_path / "pairs.jsonl")
    assert lines_of(tmp_path / "pairs.jsonl") == [
        {"chosen": chat("Q", "aaa"), "rejected": chat("Q", "a"), "source": "pairs", "margin": 2.0}
    ]


def test_ties_and_equal_texts_make_no_pair_and_are_counted(tmp_path: Path) -> None:
    prompts = [
        ("Q", {"k": [f"aa{END}", f"bb{END}"]}),
        ("R", {"k": [f"aa{END}", f"aa {END}"]}),
        ("S", {"k": [f"aa{END}", END, f"a<|prompter|>b{END}"]}),
    ]
    scored = scored_by_length(report_of(tmp_path / "a.json", [*prompts, ("T", {"k": [f"a{END}", f"bb{END}"]})]))
    lines = write_rejections("preferences", scored, tmp_path / "p.jsonl")
    assert [pair["chosen"] for pair in lines_of(tmp_path / "p.jsonl")] == [chat("T", "bb")]
    assert lines == [
        f"wrote 1 pair to {tmp_path}/p.jsonl",
        "  prompts without a pair: 3 (fewer than two usable replies: 2, equal scores: 1)",
        "  replies left out: 3 (same text as another: 1, text of control tokens: 1, empty: 1)",
        f"next: tunesmith init {tmp_path}/p.jsonl --model MODEL",
    ]


def test_a_tree_has_the_best_the_worst_and_equal_steps_between_them(tmp_path: Path) -> None:
    texts = ["a" * length for length in range(1, 10)]
    scored = scored_by_length(report_of(tmp_path / "a.json", [("Q", {"k": texts})]))
    write_rejections("trees", scored, tmp_path / "trees.jsonl")
    (tree,) = lines_of(tmp_path / "trees.jsonl")
    replies = tree["prompt"].pop("replies")
    assert tree == {
        "message_tree_id": tree["prompt"]["message_id"],
        "tree_state": "ranking",
        "prompt": {"message_id": tree["message_tree_id"], "text": "Q", "role": "prompter", "synthetic": False},
    }
    assert [(len(reply["text"]), reply["rank"]) for reply in replies] == [(9, 0), (7, 1), (5, 2), (3, 3), (1, 4)]
    assert {(reply["role"], reply["synthetic"], reply["model_name"]) for reply in replies} == {
        ("assistant", True, "m,top_k=50")
    }
    write_rejections("trees", scored, tmp_path / "again.jsonl")
    assert (tmp_path / "again.jsonl").read_bytes() == (tmp_path / "trees.jsonl").read_bytes()


def test_equal_scores_have_equal_ranks_in_a_tree(tmp_path: Path) -> None:
    scored = scored_by_length(report_of(tmp_path / "a.json", [("Q", {"k": ["aa", "bb", "c"]})]))
    tree = rejection_tree(scored.prompts[0])
    assert isinstance(tree, dict)
    assert [reply["rank"] for reply in tree["prompt"]["replies"]] == [0, 0, 1]


def test_the_reader_of_trees_reads_conversations_of_several_turns() -> None:
    messages = (Message("user", "a"), Message("assistant", "b"), Message("user", "c"))
    replies = (ScoredReply("good", 2.0, None, "m"), ScoredReply("bad", 1.0, None, "m"))
    tree = rejection_tree(ScoredPrompt("User: a ..", messages, replies))
    assert isinstance(tree, dict)
    options = {"states": ["ranking"], "reviewed": False, "synthetic": True, "keep": "rankings"}
    found = open_reader("oasst", {}, options)(tree).tree
    assert [message.text for message in found.messages] == ["a", "b", "c", "good", "bad"]
    assert [message.rank for message in found.messages] == [None, None, None, 0, 1]
    system = rejection_tree(ScoredPrompt("", (Message("system", "s"), *messages), replies))
    assert [message.role for message in open_reader("oasst", {}, options)(system).tree.messages][:2] == [
        "system",
        "user",
    ]
    late = (*messages, Message("system", "s"))
    assert rejection_tree(ScoredPrompt("", late, replies)) == "a message that the trees cannot have"


def test_trees_of_replies_with_other_profiles_have_other_ids() -> None:
    replies = (ScoredReply("good", 2.0, None, "m"), ScoredReply("bad", 1.0, None, "m"))
    additions = (NO_ADDITION, *(PromptAddition(profile=(("quality", quality),)) for quality in (0.0, 1.0)))
    trees = [rejection_tree(ScoredPrompt("a", (Message("user", "a"),), replies, each)) for each in additions]
    assert all(isinstance(tree, dict) for tree in trees)
    ids = [identity for tree in trees for identity in re.findall(r'"message_id": "([^"]+)"', json.dumps(tree))]
    assert len(ids) == len(set(ids)) == 9


@given(st.integers(1, 30), st.integers(2, 9))
def test_a_spread_has_first_and_last_and_no_reply_twice(count: int, wanted: int) -> None:
    replies = [ScoredReply(str(number), -float(number), None, "m") for number in range(count)]
    found = spread(replies, wanted)
    assert (found[0], found[-1]) == (replies[0], replies[-1])
    assert len(found) == len(set(found)) == min(count, wanted)
    assert found == sorted(found, key=lambda reply: -reply.score)


REPLIES = st.lists(
    st.tuples(st.sampled_from(["a", "b", "a ", "", "c</s>d", "e"]), st.sampled_from([0.0, 1.0, 2.5]), st.booleans()),
    max_size=6,
)


@given(st.lists(REPLIES, max_size=4))
def test_no_pair_and_no_tree_has_a_reply_that_is_not_usable(groups: list[list[tuple[str, float, bool]]]) -> None:
    for group in groups:
        replies = sorted((ScoredReply(*each, "m") for each in group), key=lambda reply: -reply.score)
        prompt = ScoredPrompt("Q", (Message("user", "Q"),), tuple(replies))
        usable = prompt.usable()
        assert len({reply.text.strip() for reply in usable}) == len(usable)
        assert all(reply.ended and reply.text.strip() and "</s>" not in reply.text for reply in usable)
        assert len(usable) + prompt.left_out().total() == len(replies)
        tree = rejection_tree(prompt)
        assert isinstance(tree, dict) == (len(usable) > 1)


@pytest.mark.parametrize("kind", ["report", "trees", "preferences"])
def test_nothing_to_write_is_one_error_and_no_file(tmp_path: Path, kind: str) -> None:
    scored = scored_by_length(report_of(tmp_path / "a.json", [("Q", {"k": ["", " "]})]))
    with pytest.raises(MissingInputError):
        write_rejections(kind, scored, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_only_kinds_with_a_number_of_replies_take_one(tmp_path: Path) -> None:
    scored = scored_by_length(report_of(tmp_path / "a.json", [("Q", {"k": ["a", "bb", "ccc"]})]))
    with pytest.raises(UsageError, match="--keep has no effect on preferences"):
        write_rejections("preferences", scored, tmp_path / "out", keep=2)
    write_rejections("report", scored, tmp_path / "out", keep=2)
    found = read_report(tmp_path / "out")
    assert found is not None
    assert found.prompts[0].outputs == {"best_of_3": ("ccc", "bb")}
    assert {kind: each.keep for kind, each in REJECTION_KINDS.items()} == {
        "report": 1,
        "selection": 3,
        "trees": 5,
        "preferences": None,
    }


@pytest.fixture
def reports(tmp_path: Path) -> Sequence[SamplingReport]:
    prompts = [
        (f"Say red {number} times.", {"k": [f"red {'red ' * number}", f"blue {number}"]}) for number in range(24)
    ]
    return [report_of(tmp_path / "a.json", prompts)]


def trained_steps(root: Path, settings: list[str]) -> list[dict[str, Any]]:
    write_preferences(root, records=6)
    run = train_recipe(small_recipe(root, ["train.evaluate_every=null", "data.validation=0", *settings])).directory
    return lines_of(run / "metrics.jsonl")


def test_preferences_are_recognised_and_train_a_recipe_of_dpo(tmp_path: Path, reports: list[SamplingReport]) -> None:
    write_rejections("preferences", scored_by_length(*reports), tmp_path / "pairs.jsonl")
    found = recognise(first_rows(str(tmp_path / "pairs.jsonl")))
    assert isinstance(found, Recognised)
    assert found.reading.reader == "preference"
    source = f"data.sources=[{{path: {tmp_path}/pairs.jsonl, reader: preference}}]"
    steps = trained_steps(tmp_path, [source, "train.steps=3"])
    assert any("rewards/accuracies" in name for line in steps for name in line)


def test_trees_train_a_reward_model(tmp_path: Path, reports: list[SamplingReport]) -> None:
    lines = write_rejections("trees", scored_by_length(*reports), tmp_path / "trees.jsonl")
    assert [line.strip() for line in lines[-2:]] == list(READING_TREES)
    source = f"data.sources=[{{path: {tmp_path}/trees.jsonl, {', '.join(READING_TREES)}}}]"
    settings = [source, "train.steps=2", "objective={kind: reward}"]
    assert trained_steps(tmp_path, settings)
