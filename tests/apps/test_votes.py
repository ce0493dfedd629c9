"""Blind votes as preference pairs: from the file that the page saves to a recipe of DPO."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.apps.reports import write_report
from tests.worlds import small_recipe, write_preferences
from tunesmith.apps.compare import open_report
from tunesmith.apps.preferences import PairReport, PairSelection
from tunesmith.apps.sampling_reports import prompt_digest, report_key
from tunesmith.apps.votes import build_vote_preferences, read_votes
from tunesmith.compose import train_recipe
from tunesmith.errors import DataError, MissingInputError

PROMPTS = [f"Say red {number} times." for number in range(24)]


@pytest.fixture
def reports(tmp_path: Path) -> list[Path]:
    first = [
        (prompt, {"k50": [f"red {number}", f"red red {number}<|endoftext|>"]}) for number, prompt in enumerate(PROMPTS)
    ]
    second = [(prompt, {"greedy": [f"blue {number}"]}) for number, prompt in enumerate(PROMPTS)]
    return [write_report(tmp_path / "a.json", "m", first), write_report(tmp_path / "b.json", "m", second)]


def votes_on(reports: list[Path], verdicts: list[str]) -> dict[str, Any]:
    """A file of votes as the page saves it: the second reply of the first model on the left."""
    first, second = (report_key(open_report(path)) for path in reports)
    return {
        "format": "tunesmith votes",
        "version": 1,
        "comparison": "0" * 16,
        "votes": [
            {
                "prompt": prompt_digest(replies),
                "left": {"report": first, "configuration": "k50", "sample": 1},
                "right": {"report": second, "configuration": "greedy", "sample": 0},
                "verdict": verdict,
            }
            for replies, verdict in zip(open_report(reports[0]).prompts, verdicts, strict=False)
        ],
    }


def built(root: Path, reports: list[Path], content: Any, **settings: Any) -> tuple[PairReport, list[dict[str, Any]]]:
    (root / "votes.json").write_text(json.dumps(content))
    output = root / "pairs.jsonl"
    report = build_vote_preferences([root / "votes.json"], reports, output, settings.get("selection", PairSelection()))
    return report, [json.loads(line) for line in output.read_text().splitlines()]


def chat(prompt: str, reply: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": reply}]


def test_the_preferred_reply_is_chosen_and_undecided_votes_are_counted(tmp_path: Path, reports: list[Path]) -> None:
    report, pairs = built(tmp_path, reports, votes_on(reports, ["left", "right", "tie", "both_bad", "left"]))
    assert pairs[:2] == [
        {
            "chosen": chat(PROMPTS[0], "red red 0"),
            "rejected": chat(PROMPTS[0], "blue 0"),
            "source": "votes",
        },
        {
            "chosen": chat(PROMPTS[1], "blue 1"),
            "rejected": chat(PROMPTS[1], "red red 1"),
            "source": "votes",
        },
    ]
    counts = report.sources["votes"]
    assert (counts.records, counts.used, report.written) == (5, 3, 3)
    assert counts.rejected == {"tie": 1, "both replies are bad": 1}


TURNS = [{"role": "user", "content": "A?"}, {"role": "assistant", "content": "B."}, {"role": "user", "content": "C?"}]
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]
CALL = {"type": "function", "function": {"name": "weather", "arguments": "{}"}}
USED = [
    {"role": "user", "content": "Sun?"},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "content": "yes", "name": "weather"},
]
CONVERSATIONS = [
    ({"prompt": "User: A?\n\nAssistant: B.\n\nUser: C?", "messages": TURNS}, TURNS, None),
    (
        {"prompt": "System: S\n\nUser: Q", "messages": [{"role": "system", "content": "S"}, *chat("Q", "")[:1]]},
        [{"role": "system", "content": "S"}, *chat("Q", "")[:1]],
        None,
    ),
    ({"prompt": "User: Q", "messages": chat("Q", "")[:1], "tools": TOOLS}, chat("Q", "")[:1], TOOLS),
    ({"prompt": "User: Sun?\n\n..", "messages": USED, "tools": TOOLS}, USED, TOOLS),
]


def conversation_reports(root: Path, prompts: Sequence[Mapping[str, Any]], **settings: Any) -> list[Path]:
    """Two reports with replies to these prompts: the first with k50, the second with greedy."""
    first = [(prompt, {"k50": ["no", "good"]}) for prompt in prompts]
    second = [(prompt, {"greedy": ["bad"]}) for prompt in prompts]
    additions = [settings.get("first"), settings.get("second")]
    return [
        write_report(root / name, "m", content, additions=added)
        for name, content, added in zip(("a.json", "b.json"), (first, second), additions, strict=True)
    ]


@pytest.mark.parametrize(("prompt", "messages", "tools"), CONVERSATIONS)
def test_pairs_have_the_messages_and_the_tools_that_the_replies_answer(
    tmp_path: Path, prompt: dict[str, Any], messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None
) -> None:
    reports = conversation_reports(tmp_path, [prompt])
    _, (pair,) = built(tmp_path, reports, votes_on(reports, ["left"]))
    assert pair["chosen"] == [*messages, {"role": "assistant", "content": "good"}]
    assert pair["rejected"] == [*messages, {"role": "assistant", "content": "bad"}]
    assert pair.get("tools") == tools


def test_equal_texts_of_other_conversations_are_other_prompts(tmp_path: Path) -> None:
    """A text that looks like a conversation is one message, and tools are part of a prompt."""
    other = json.loads(json.dumps(TOOLS).replace("weather", "stocks"))
    text = str(CONVERSATIONS[0][0]["prompt"])
    plain = {"prompt": text}
    with_tools = [{**CONVERSATIONS[2][0], "tools": tools} for tools in (TOOLS, other)]
    reports = conversation_reports(tmp_path, [plain, CONVERSATIONS[0][0], *with_tools])
    _, pairs = built(tmp_path, reports, votes_on(reports, ["left"] * 4))
    assert [pair["chosen"][:-1] for pair in pairs] == [
        [{"role": "user", "content": text}],
        TURNS,
        *[[{"role": "user", "content": "Q"}]] * 2,
    ]
    assert [pair.get("tools") for pair in pairs] == [None, None, TOOLS, other]
    content = votes_on(reports[:1] * 2, ["left"] * 4)
    assert len({vote["prompt"] for vote in content["votes"]}) == 4


def test_the_system_text_of_a_configuration_is_part_of_a_pair(tmp_path: Path) -> None:
    added = {"pre_text": "Be brief."}
    prompts = [{"prompt": "Q"}, CONVERSATIONS[2][0]]
    reports = conversation_reports(tmp_path, prompts, first={"k50": added}, second={"greedy": added})
    _, pairs = built(tmp_path, reports, votes_on(reports, ["left", "right"]))
    system = {"role": "system", "content": "Be brief."}
    assert [pair["chosen"] for pair in pairs] == [[system, *chat("Q", "good")], [system, *chat("Q", "bad")]]
    assert [pair.get("tools") for pair in pairs] == [None, TOOLS]


def test_replies_to_different_system_texts_or_profiles_make_no_pair(tmp_path: Path) -> None:
    for added in ({"pre_text": "Be brief."}, {"system_profile": {"humor": 0.9}}):
        reports = conversation_reports(tmp_path, [{"prompt": "Q"}], first={"k50": added})
        with pytest.raises(MissingInputError, match="the replies answer different system messages or profiles: 1"):
            built(tmp_path, reports, votes_on(reports, ["left"]))


def test_the_order_and_the_names_of_the_reports_do_not_matter(tmp_path: Path, reports: list[Path]) -> None:
    content = votes_on(reports, ["left", "right"])
    _, pairs = built(tmp_path, reports, content)
    moved = reports[0].rename(tmp_path / "another name.json")
    assert built(tmp_path, [reports[1], moved], content)[1] == pairs


def test_votes_on_other_reports_are_counted(tmp_path: Path, reports: list[Path]) -> None:
    content = votes_on(reports, ["left"] * 4)
    content["votes"][1]["left"]["report"] = "f" * 16
    content["votes"][2]["right"]["sample"] = 1
    content["votes"][3]["prompt"] = "f" * 16
    report, pairs = built(tmp_path, reports, content)
    assert len(pairs) == 1
    assert report.sources["votes"].rejected == {"not a reply of these reports": 3}
    with pytest.raises(MissingInputError, match=r"no pairs in 4 records \(not a reply of these reports: 4\)"):
        built(tmp_path, reports[1:], content)


def test_a_selection_applies_to_votes_too(tmp_path: Path, reports: list[Path]) -> None:
    content = votes_on(reports, ["left"] * 20)
    report, pairs = built(tmp_path, reports, content, selection=PairSelection(shuffle=3, limit=5))
    assert (len(pairs), report.over_limit) == (5, 15)
    assert [pair["chosen"][0]["content"] for pair in pairs] != PROMPTS[:5]


def test_pairs_of_votes_train_a_recipe_of_dpo(tmp_path: Path, reports: list[Path]) -> None:
    built(tmp_path, reports, votes_on(reports, ["left", "right"] * 12))
    write_preferences(tmp_path, records=6)
    source = f"data.sources=[{{path: {tmp_path}/pairs.jsonl, reader: preference}}]"
    settings = ["train.steps=2", "train.evaluate_every=null", "data.validation=0"]
    run = train_recipe(small_recipe(tmp_path, [source, *settings])).directory
    steps = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert any("loss" in name for line in steps for name in line)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": "other"}, "not a file of votes"),
        ({"votes": 3}, "not a file of votes"),
        ({"votes": [3]}, r"votes\[0\]: this is not an object"),
        ({"votes": [{"prompt": "x", "verdict": "maybe"}]}, r"votes\[0\]: a vote needs a prompt, and a verdict"),
        ({"votes": [{"prompt": 3, "verdict": "left"}]}, "a vote needs a prompt"),
        ({"votes": [{"prompt": "x", "verdict": "left", "left": 3}]}, "left and right need a report"),
    ],
)
def test_a_file_that_is_damaged_says_where(
    tmp_path: Path, reports: list[Path], change: dict[str, Any], says: str
) -> None:
    with pytest.raises(DataError, match=says):
        built(tmp_path, reports, votes_on(reports, ["left"]) | change)
    assert not (tmp_path / "pairs.jsonl").exists()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["report", "sample", "x"]), inner),
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=VALUES, place=st.sampled_from(["prompt", "left", "right", "verdict", "report", "configuration", "sample"]))
def test_any_value_in_any_place_is_a_vote_or_one_error(tmp_path: Path, value: Any, place: str) -> None:
    side = {"report": "r", "configuration": "c", "sample": 0}
    vote: dict[str, Any] = {"prompt": "p", "left": dict(side), "right": dict(side), "verdict": "left"}
    (vote if place in vote else vote["left"])[place] = value
    path = tmp_path / "votes.json"
    path.write_text(json.dumps({"format": "tunesmith votes", "votes": [vote]}))
    assert "votes.json: votes[0]" in outcome(path)


def outcome(path: Path) -> str:
    """The place of the only vote, or the error."""
    try:
        (vote,) = read_votes(path)
    except DataError as error:
        return str(error)
    return vote.place
