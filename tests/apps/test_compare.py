"""`tunesmith compare`: which replies are next to each other, for one report or several, equal or different."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.apps.reports import write_report
from tunesmith.apps.compare import open_report, read_comparison, run
from tunesmith.apps.sampling_reports import report_key
from tunesmith.errors import DataError, MissingInputError, UsageError
from tunesmith.report.compare_statistics import summarize

SFT = "reports/sft-4.2023-04-03_andreaskoepf_oasst-sft-4-pythia-12b-epoch-3_5_sampling_noprefix_lottery.json"
GPT = "reports/gpt35.2023-04-11_gpt-3.5-turbo_lottery.json"


@pytest.fixture
def reports(tmp_path: Path) -> list[Path]:
    """Two reports with two prompts in common; the first shows which replies ended."""
    first = [
        ("Hello?", {"greedy": ["Hi.<|endoftext|>"], "k50": ["Hey", "Ho.</s>"]}),
        ("Why?", {"greedy": ["So.<|endoftext|>"]}),
        ("Who?", {"greedy": ["I."]}),
    ]
    second = [("Why?", {"k50": ["Because."]}), ("Hello?", {"k50": ["Good day."]}), ("When?", {"k50": ["Now."]})]
    return [write_report(tmp_path / "a.json", "o/first", first), write_report(tmp_path / "b.json", "o/second", second)]


def replies(comparison: Any, number: int) -> list[tuple[int, str, int, str]]:
    return [(each.model, each.configuration, each.sample, each.text) for each in comparison.prompts[number].replies]


def written(reports: list[Path], **settings: Any) -> str:
    target = io.StringIO()
    run([str(path) for path in reports], target=target, **settings)
    return target.getvalue()


def test_a_page_never_replaces_what_is_read(reports: list[Path], tmp_path: Path) -> None:
    before = reports[0].read_bytes()
    names = [str(path) for path in reports]
    with pytest.raises(UsageError, match="this file is read and would be overwritten"):
        run(names, output=reports[0])
    with pytest.raises(UsageError, match=r"other\.json' is not the name of a page; let it end in \.html"):
        run(names, output=tmp_path / "other.json")
    assert reports[0].read_bytes() == before


def test_prompts_are_matched_by_their_text(reports: list[Path]) -> None:
    comparison = read_comparison(reports)
    assert [prompt.text for prompt in comparison.prompts] == ["Hello?", "Why?", "Who?", "When?"]
    assert comparison.shared_prompts() == 2
    assert comparison.configurations == ("greedy", "k50")
    assert replies(comparison, 0) == [
        (0, "greedy", 0, "Hi."),
        (0, "k50", 0, "Hey"),
        (0, "k50", 1, "Ho."),
        (1, "k50", 0, "Good day."),
    ]
    assert [model.parameters["k50"] for model in comparison.models] == ["top_k 50"] * 2


def test_an_end_is_known_only_where_a_report_writes_end_tokens(reports: list[Path]) -> None:
    comparison = read_comparison(reports)
    assert [each.ended for each in comparison.prompts[0].replies] == [True, False, True, None]


def test_a_report_that_names_its_end_tokens_shows_that_no_reply_ended(tmp_path: Path) -> None:
    prompts = [("Hello?", {"k": ["Hi"]}), ("Why?", {"k": ["So"]})]
    named = write_report(tmp_path / "a.json", "m", prompts, end_tokens=["<|im_end|>"])
    unknown = write_report(tmp_path / "b.json", "n", prompts)
    comparison = read_comparison([named, unknown])
    assert [each.ended for each in comparison.prompts[0].replies] == [False, None]
    assert [summary.ended for summary in summarize(comparison)] == [0.0, None]


def test_reports_of_the_same_model_are_different_models(reports: list[Path], tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    paths = [
        reports[0],
        write_report(tmp_path / "c.json", "o/first", [("Hello?", {"greedy": ["Oh."]})]),
        write_report(tmp_path / "x" / "c.json", "o/first", [("Hello?", {"greedy": ["Ah."]})]),
    ]
    assert [model.label for model in read_comparison(paths[:2]).models] == ["first (a)", "first (c)"]
    comparison = read_comparison(paths)
    assert [model.label for model in comparison.models] == ["first (a)", "first (c)", "first (x/c)"]
    assert [(each.model, each.text) for each in comparison.prompts[0].replies if each.configuration == "greedy"] == [
        (0, "Hi."),
        (1, "Oh."),
        (2, "Ah."),
    ]


def test_equal_texts_with_other_messages_or_tools_are_other_prompts(tmp_path: Path) -> None:
    """As in rejection sampling; a prompt with one message of the user is the same as its text."""
    text = "User: A?\n\nAssistant: B.\n\nUser: C?"
    roles = ("user", "assistant", "user")
    turns = [{"role": role, "content": content} for role, content in zip(roles, ("A?", "B.", "C?"), strict=True)]
    one: dict[str, Any] = {"prompt": "User: A?", "messages": turns[:1]}
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]
    asked = [text, {"prompt": text, "messages": turns}, one, "A?", {**one, "tools": tools}]
    first = write_report(tmp_path / "a.json", "m", [(prompt, {"k": ["1"]}) for prompt in asked])
    second = write_report(tmp_path / "b.json", "n", [(prompt, {"k": ["2"]}) for prompt in asked[::-1]])
    comparison = read_comparison([first, second])
    assert [prompt.text for prompt in comparison.prompts] == [text, text, "User: A?", "User: A?"]
    assert [len(prompt.replies) for prompt in comparison.prompts] == [2, 2, 4, 2]
    assert len({prompt.key for prompt in comparison.prompts}) == 4
    assert [model.repeated for model in comparison.models] == [1, 1]


def test_prompts_are_the_same_whatever_a_configuration_adds_to_them(tmp_path: Path) -> None:
    paths = [
        write_report(tmp_path / f"{name}.json", name, [("Q", {"k": ["1"]})], additions=additions)
        for name, additions in (("a", None), ("b", {"k": {"pre_text": "Be brief."}}))
    ]
    assert read_comparison(paths).shared_prompts() == 1


def test_a_report_that_is_given_twice_is_refused(reports: list[Path], tmp_path: Path) -> None:
    (tmp_path / "link.json").symlink_to(reports[0])
    for again in (reports[0], tmp_path / "link.json", tmp_path / "." / "x" / ".." / "a.json"):
        with pytest.raises(UsageError, match="this report is given twice; give it once"):
            read_comparison([*reports, again])


def test_a_prompt_that_a_report_repeats_has_all_of_its_replies(tmp_path: Path) -> None:
    path = write_report(
        tmp_path / "a.json", "m", [("Q", {"k": ["1", "2"]}), ("R", {}), ("Q", {"k": ["3"], "g": ["4"]})]
    )
    comparison = read_comparison([path])
    assert replies(comparison, 0) == [(0, "k", 0, "1"), (0, "k", 1, "2"), (0, "k", 2, "3"), (0, "g", 0, "4")]


def test_it_is_said_that_prompts_repeat(tmp_path: Path) -> None:
    path = write_report(tmp_path / "a.json", "m", [(text, {"k": ["1"]}) for text in ("Q", "R", "Q")])
    other = write_report(tmp_path / "b.json", "n", [(text, {"k": ["1"]}) for text in ("Q", "R")])
    says = "1 prompt repeats an earlier one; the replies count as replies to one prompt"
    assert written([path, other]).splitlines()[2:5] == ["     a.json, 2023-04-03", f"     {says}", "  B  n"]
    written([path], output=tmp_path / "page.html")
    assert says in (tmp_path / "page.html").read_text()
    path = write_report(tmp_path / "a.json", "m", [("Q", {"k": ["1"]})] * 3)
    assert "\n     2 prompts repeat others; the replies count as" in written([path])


def scores(name: str, values: list[dict[str, list[float | None]]], model: str = "judge") -> dict[str, Any]:
    return {"model_name": "x", "report": name, "reward_model": model, "scores": values}


def score_file(path: Path, *content: dict[str, Any]) -> Path:
    path.write_text(json.dumps(content[0] if len(content) == 1 else content))
    return path


A_SCORES: list[dict[str, list[float | None]]] = [
    {"greedy": [1.5], "k50": [0.5, None]},
    {"greedy": [2.0]},
    {"greedy": [3.0]},
]
B_SCORES: list[dict[str, list[float | None]]] = [{"k50": [4.0]}, {"k50": [5.0]}, {"k50": [6]}]


def test_scores_are_found_again_for_their_replies(reports: list[Path], tmp_path: Path) -> None:
    path = score_file(tmp_path / "s.json", scores("b.json", B_SCORES), scores("a.json", A_SCORES))
    comparison = read_comparison(reports, [path])
    assert comparison.reward_model == "judge"
    assert [each.reward for each in comparison.prompts[0].replies] == [1.5, 0.5, None, 5.0]
    assert "reward" in written(reports, scores=[str(path)])


def test_scores_of_other_replies_of_the_same_number_do_not_fit(reports: list[Path], tmp_path: Path) -> None:
    own = {**scores("b.json", B_SCORES), "report_key": report_key(open_report(reports[1]))}
    assert read_comparison(reports, [score_file(tmp_path / "s.json", own)]).reward_model == "judge"
    other = score_file(tmp_path / "t.json", {**own, "report_key": report_key(open_report(reports[0]))})
    with pytest.raises(UsageError, match=r"the scores of b\.json do not fit any of the reports"):
        read_comparison(reports, [other])


@pytest.mark.parametrize(
    ("content", "error", "says"),
    [
        ([scores("c.json", B_SCORES)], UsageError, "the scores of c.json do not fit any of the reports"),
        ([scores("b.json", B_SCORES[:2])], UsageError, "the scores of b.json do not fit any"),
        ([scores("b.json", [*B_SCORES[:2], {"k50": [1.0, 2.0]}])], UsageError, "do not fit any"),
        ([scores("b.json", B_SCORES)] * 2, UsageError, "two files of scores of b.json"),
        ([scores("a.json", A_SCORES), scores("b.json", B_SCORES, "other")], UsageError, "different reward models"),
        (
            [scores("b.json", [*B_SCORES[:2], {"k50": ["high"]}])],
            DataError,
            r"scores\[2\] has a score that is no number",
        ),
        ([scores("b.json", [*B_SCORES[:2], {"k50": [True]}])], DataError, "no number"),
        ([scores("b.json", [3])], DataError, r"scores\[0\] is not an object of lists"),
        ([{"scores": 3}], DataError, "not a file of scores"),
        ([{"results": {}}], DataError, "not a file of scores"),
    ],
)
def test_scores_that_do_not_belong_to_the_reports_are_refused(
    reports: list[Path], tmp_path: Path, content: list[Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        read_comparison(reports, [score_file(tmp_path / "s.json", *content)])


def test_scores_of_two_reports_with_equal_names_are_ambiguous(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    same = [write_report(tmp_path / name, "m", [("Q", {"k": ["1"]})]) for name in ("r.json", "x/r.json")]
    path = score_file(tmp_path / "s.json", scores("r.json", [{"k": [1.0]}]))
    with pytest.raises(UsageError, match=r"the scores of r\.json fit 2 of the reports"):
        read_comparison(same, [path])


def test_the_numbers_are_printed_and_the_page_is_written(reports: list[Path], tmp_path: Path) -> None:
    assert "2 models, 4 prompts, 2 of them answered by every model" in written(reports)
    page = tmp_path / "out" / "page.html"
    assert written(reports, output=page) == f"wrote {page} (prompts: 4, replies: 8, 0.1 MB); open it in a browser\n"
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    both = written(reports, output=page, text=True)
    assert "no difference shown" in both
    assert both.endswith(f"replaced {page} (prompts: 4, replies: 8, 0.1 MB); open it in a browser\n")


def test_the_same_reports_give_the_same_page(reports: list[Path], tmp_path: Path) -> None:
    pages = [tmp_path / "one.html", tmp_path / "two.html"]
    for page in pages:
        written(reports, output=page)
    assert pages[0].read_bytes() == pages[1].read_bytes()


def test_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"instruction": "x"}\n')
    with pytest.raises(DataError, match=r"rows\.jsonl: this is not a sampling report"):
        read_comparison([path])
    with pytest.raises(MissingInputError, match="does not exist"):
        read_comparison([tmp_path / "nothing.json"])


def test_the_terminal_gets_no_control_characters(tmp_path: Path) -> None:
    path = write_report(tmp_path / "a.json", "\x1b[31mred", [("Q", {"\x1b]0;x\x07": ["1"]})])
    assert "\x1b" not in written([path])


def test_the_published_reports_make_a_page_of_less_than_six_megabytes(
    tmp_path: Path, real_data: Callable[[str], Path]
) -> None:
    paths = [real_data(SFT), real_data(GPT)]
    ours = write_report(
        tmp_path / "ours.json", "ours", [(f"Prompt {n}?", {"greedy": ["A reply."]}) for n in range(250)]
    )
    comparison = read_comparison(paths)
    assert (len(comparison.prompts), comparison.shared_prompts()) == (250, 250)
    assert sum(len(prompt.replies) for prompt in comparison.prompts) == 3000
    page = tmp_path / "page.html"
    text = written([*paths, ours], output=page, text=True)
    assert page.stat().st_size < 6_000_000
    assert "nucleus9    length   250  -421 (-481 to -363)             B is shorter" in text
    assert "A  oasst-sft-4-pythia-12b-epoch-3.5           500   88%    999     0     0     0" in text
