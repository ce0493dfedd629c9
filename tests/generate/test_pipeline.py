"""The pipeline: the calls and results of the original dolly pipeline, and the replies of our own engine."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from transformers import pipeline as stock_pipeline

import tunesmith
from tests.apps.sampled_models import write_causal, write_t5
from tests.conftest import REPOSITORY
from tunesmith.errors import DataError, UsageError
from tunesmith.generate.engine import Engine, GeneratedReply
from tunesmith.generate.export_directory import read_export
from tunesmith.generate.pipeline import ReplyPipeline
from tunesmith.generate.requests import ReplyRequest
from tunesmith.generate.sampling import SamplingParameters
from tunesmith.generate.scheduler import FinishedReply
from tunesmith.model.export import export
from tunesmith.model.load import new_model
from tunesmith.recipe.load import load
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tree import Message

Golden = Callable[[str], dict[str, Any]]
TINY = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}


class RecordedEngine(Engine):
    """Gives recorded ids in place of generated ones, and keeps what was asked for.

    ids: those of the replies to come, in their order.
    requests: what was asked for.
    """

    ids: Sequence[Sequence[int]] = ()
    requests: Sequence[ReplyRequest] = ()

    def replies(self, requests: Sequence[ReplyRequest], batch_size: int = 8) -> Iterator[tuple[int, GeneratedReply]]:
        self.requests = requests
        for index, ids in reversed(list(enumerate(self.ids))):
            yield index, self.parse(FinishedReply(tuple(ids), "stop", None))


@pytest.fixture(scope="module")
def recorded(real: Callable[..., Renderer]) -> RecordedEngine:
    """The prompts and replies of dolly with the tokenizer of Pythia."""
    renderer = real("dolly", "pythia")
    return RecordedEngine(new_model({"architecture": "gpt_neox", **TINY}, renderer.tokenizer.size, 0), renderer)


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_causal(tmp_path_factory.mktemp("causal") / "model", "dolly", 1)


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_t5(tmp_path_factory.mktemp("t5") / "model")


def cases(golden: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    found = [case for case in golden["cases"] if case["kind"] == kind and case["settings"]["tokenizer"] == "dolly"]
    assert found
    return found


def test_prompts_are_those_of_the_original_pipeline(golden: Golden, recorded: RecordedEngine) -> None:
    recorded.ids = [[recorded.renderer.tokenizer.control("### End")]]
    for case in cases(golden("dolly"), "generation_prompt"):
        text, expected = case["input"]["instruction"], case["expected"]["input_ids"]
        assert ReplyPipeline(recorded, SamplingParameters())(text) == [{"generated_text": ""}]
        assert [list(request.prompt) for request in recorded.requests] == [expected]
    instruction, _, context = text.partition("\n\nInput:\n")
    assert context, "the last case has a context"
    ReplyPipeline(recorded, SamplingParameters())(instruction, context=context)
    assert list(recorded.requests[0].prompt) == expected


def test_sampling_is_that_of_the_original_pipeline(golden: Golden, recorded: RecordedEngine) -> None:
    """The defaults of the recipe reach the engine, and what a call says wins."""
    (case,) = cases(golden("dolly"), "forward_params")
    args = dict(case["expected"]["generate_args"])
    assert recorded.renderer.stop_ids == {args.pop("eos_token_id")}
    sampling = SamplingParameters(**load(["dolly-v2-3b"]).recipe.sampling.model_dump())
    assert sampling == SamplingParameters(**args)
    recorded.ids = [[1]]
    ReplyPipeline(recorded, sampling)("x", top_p=0.5, seed=4)
    assert recorded.requests[0].sampling == SamplingParameters(**{**args, "top_p": 0.5})
    assert recorded.requests[0].seed == 4


def test_results_are_those_of_the_original_pipeline(golden: Golden, recorded: RecordedEngine) -> None:
    """Replies are read without their prompt, so cases without a response key, or with a second one, are left out."""
    compared = 0
    for case in cases(golden("dolly"), "postprocess"):
        key, whole = case["settings"]["response_key_token_id"], case["settings"]["return_full_text"]
        sequences = case["input"]["generated_sequences"]
        if any(key not in ids for ids in sequences):
            continue
        recorded.ids = [ids[ids.index(key) + 1 :] for ids in sequences]
        text = case["input"]["instruction"]
        found = ReplyPipeline(recorded, SamplingParameters())(
            text, num_return_sequences=len(sequences), **({} if whole is None else {"return_full_text": whole})
        )
        expected = case["expected"].get("records_no_cleanup", case["expected"]["records"])
        if case.get("original_defect") == "N1":  # the original writes "#" for an empty reply
            expected = [{"generated_text": record["generated_text"].removesuffix("#")} for record in expected]
        assert found == expected, case["id"]
        compared += 1
    assert compared >= 17


def test_the_example_of_the_document_runs(causal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", (REPOSITORY / "docs" / "publish.md").read_text(), re.DOTALL)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "dolly-v2-3b").symlink_to(causal)
    monkeypatch.chdir(tmp_path)
    exec(example, {})


def test_one_text_gives_records_and_several_give_lists_of_them(causal: Path) -> None:
    generate = tunesmith.pipeline(causal, max_new_tokens=6)
    texts = ["Say red.", "Say blue and old.", "Say red."]
    many = generate(texts, num_return_sequences=2, seed=5)
    assert [len(records) for records in many] == [2, 2, 2]
    assert many[0] == many[2] != many[1]
    assert many[0][0] != many[0][1]
    assert generate(texts[1], num_return_sequences=2, seed=5) == many[1]
    assert generate(texts, num_return_sequences=2, seed=5, batch_size=1) == many
    assert generate("Say red.", seed=5, return_full_text=True) == [
        {"generated_text": f"Say red.\n{many[0][0]['generated_text']}"}
    ]
    full = tunesmith.pipeline(causal, max_new_tokens=6, return_full_text=True)
    assert full(texts[:1], seed=5)[0] == generate(texts[0], seed=5, return_full_text=True)
    assert full(texts[0], seed=5, return_full_text=False) == many[0][:1]
    assert generate([]) == []
    assert len({generate("Say red.")[0]["generated_text"] for _ in range(6)}) > 1, "each call draws a seed"


def test_line_breaks_of_t5_are_read_back(t5: Path) -> None:
    generate = tunesmith.pipeline(t5)
    engine = generate.engine
    tokens = engine.renderer.tokenizer.encode("one <_LB_> two <_T_> x")
    recorded = RecordedEngine(engine.model, engine.renderer)
    recorded.ids = [[*tokens, 1]]
    (found,) = ReplyPipeline(recorded, SamplingParameters())("a\n\tb")
    assert found["generated_text"] == "one\ntwo\tx"
    assert recorded.requests[0].prompt == tuple(engine.renderer.prompt([Message("user", "a\n\tb")]))
    assert engine.renderer.tokenizer.decode(recorded.requests[0].prompt) == "a _LB_> _T_> b"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"num_return_sequences": 0}, "num_return_sequences=0 must be a whole number from 1 to 65,536"),
        ({"num_return_sequences": 10**9}, "num_return_sequences=1000000000 must be a whole"),
        ({"num_return_sequences": 1.5}, r"num_return_sequences=1\.5 must be a whole"),
        ({"num_return_sequences": True}, "num_return_sequences=True must be a whole"),
        ({"batch_size": 0}, "batch_size=0 must be a whole number from 1"),
        ({"batch_size": None}, "batch_size=None must be a whole"),
        ({"seed": "7"}, "seed='7' must be a whole"),
        ({"seed": 2**63}, "seed=9223372036854775808 must be a whole"),
        ({"context": None}, "context is no text: None"),
        ({"return_full_text": "no"}, "return_full_text='no' must be True or False"),
        ({"temprature": 0.5}, "there is no setting 'temprature'"),
        ({"top_p": 2.0}, "top_p=2.0 must be"),
    ],
)
def test_an_impossible_call_is_one_line(call: dict[str, Any], message: str, causal: Path) -> None:
    generate = tunesmith.pipeline(causal)
    with pytest.raises(UsageError, match=message):
        generate("x", **call)
    with pytest.raises(UsageError, match="a text or several texts"):
        generate([{"role": "user", "content": "x"}])  # type: ignore[list-item]
    with pytest.raises(DataError, match="which leaves no tokens for a reply"):
        generate("red " * 200)


@pytest.mark.parametrize("value", [3, None, True, b"x", {}, {"role": "user"}, Path("x"), [["a"]], [1], ["a", None]])
def test_what_is_neither_a_text_nor_several_is_one_line(value: Any, recorded: RecordedEngine) -> None:
    with pytest.raises(UsageError, match="instructions must be a text or several texts, not "):
        ReplyPipeline(recorded, SamplingParameters())(value)
    if not isinstance(value, Path):
        with pytest.raises(UsageError, match="the model must be the path of a directory, not "):
            tunesmith.pipeline(value)


def test_several_texts_may_come_from_any_iterable(recorded: RecordedEngine) -> None:
    recorded.ids = [[1], [1]]
    for texts in (("a", "b"), (text for text in "ab")):
        assert len(ReplyPipeline(recorded, SamplingParameters())(texts)) == 2  # type: ignore[arg-type]


def test_importing_the_package_loads_neither_torch_nor_transformers() -> None:
    code = "import sys, tunesmith; sys.exit(bool({'torch', 'transformers', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["causal", "t5"])
def test_stock_transformers_gives_the_same_replies_with_the_code_of_an_export(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    directory: Path = request.getfixturevalue(name)
    exported = export_with_pipeline(directory, tmp_path)
    texts = ["Say red.", "Say big and old."]
    settings: dict[str, Any] = {"do_sample": False, "max_new_tokens": 8}
    expected = tunesmith.pipeline(exported)(texts, **settings)
    stock = stock_pipeline("text-generation", model=str(exported), trust_remote_code=True)
    assert [[strip(record) for record in records] for records in expected] == stock(texts, **settings)
    assert stock(texts, batch_size=2, **settings) == stock(texts, **settings)
    assert stock(texts[0], return_full_text=True, **settings) == [
        {"generated_text": f"{texts[0]}\n{strip(expected[0][0])['generated_text']}"}
    ]
    assert len(stock(texts[0], num_return_sequences=3, do_sample=True, max_new_tokens=4)) == 3
    with pytest.raises(ValueError, match="trust_remote_code"):
        stock_pipeline("text-generation", model=str(exported), trust_remote_code=False)


def strip(record: dict[str, str]) -> dict[str, str]:
    return {"generated_text": record["generated_text"].strip()}


def export_with_pipeline(directory: Path, target: Path) -> Path:
    """The model of an export, exported again with the code of a pipeline."""
    engine = tunesmith.pipeline(directory).engine
    info = read_export(directory)
    assert info is not None
    renderer = engine.renderer
    export(target / "export", engine.model, renderer.tokenizer, renderer.format, info, with_pipeline=True)
    return target / "export"
