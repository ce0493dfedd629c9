"""`tunesmith sample --engine vllm`, with a module in the place of vLLM that takes the same arguments.

The module generates with our own engine. What is tested is what we give to vLLM and what we make of its answers; vLLM
itself needs a GPU and is not run.
"""

from __future__ import annotations

import io
import json
import sys
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pytest

from tests.apps.sampled_models import CONTEXT, write_causal, write_t5
from tunesmith.apps import best_of
from tunesmith.apps.best_of import BestOfSettings
from tunesmith.apps.sample import SampleSettings, run
from tunesmith.errors import DataError, MissingInputError, UsageError
from tunesmith.files import write_json
from tunesmith.generate.export_directory import open_engine
from tunesmith.generate.requests import ReplyRequest
from tunesmith.generate.sampling import SamplingParameters

NUCLEUS = {"do_sample": True, "top_p": 0.9, "temperature": 0.7, "min_new_tokens": 2}
CONFIGURATIONS = {
    "default": {"generate_args": {"do_sample": False, "max_new_tokens": 9, "repetition_penalty": 1.1}},
    "configurations": [
        {"name": "greedy", "generate_args": {}},
        {
            "name": "nucleus",
            "generate_args": {"do_sample": True, "top_p": 0.9, "temperature": 0.7, "min_new_tokens": 2},
        },
    ],
}


@dataclass(frozen=True)
class StandInParameters:
    """The fields of vLLM's ``SamplingParams`` that are given."""

    temperature: float
    top_k: int
    top_p: float
    repetition_penalty: float
    min_tokens: int
    max_tokens: int
    stop_token_ids: list[int]
    ignore_eos: bool
    allowed_token_ids: list[int] | None
    detokenize: bool
    seed: int


class StandInModel:
    """vLLM's ``LLM``. ``calls`` has what ``generate`` was given, ``running`` the directories of those in memory."""

    calls: ClassVar[list[StandInParameters]] = []
    running: ClassVar[list[str]] = []

    def __init__(self, model: str, skip_tokenizer_init: bool) -> None:
        assert skip_tokenizer_init
        assert not self.running, "vLLM takes most of the memory of the device, so there is none for two"
        self.running.append(model)
        self._engine, _ = open_engine(model)
        core = SimpleNamespace(shutdown=lambda: self.running.remove(model))
        self.llm_engine = SimpleNamespace(
            model_config=SimpleNamespace(max_model_len=CONTEXT), engine_core=core, itself=self
        )

    def generate(
        self, prompts: Sequence[dict[str, Any]], sampling_params: Sequence[StandInParameters], *, use_tqdm: bool
    ) -> list[Any]:
        assert not use_tqdm
        found = []
        for prompt, given in zip(prompts, sampling_params, strict=True):
            self.calls.append(given)
            sampling = SamplingParameters(
                do_sample=given.temperature > 0,
                temperature=given.temperature or 1.0,
                top_k=given.top_k,
                top_p=given.top_p,
                repetition_penalty=given.repetition_penalty,
                min_new_tokens=given.min_tokens,
                max_new_tokens=given.max_tokens,
            )
            request = ReplyRequest(tuple(prompt["prompt_token_ids"]), sampling, given.seed, 0)
            ((_, reply),) = self._engine.replies([request])
            ids, stop = (reply.ids[:-1], reply.ids[-1]) if reply.stopped else (reply.ids, None)
            found.append(SimpleNamespace(outputs=[SimpleNamespace(token_ids=list(ids), stop_reason=stop)]))
        return found


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> type[StandInModel]:
    """A module in the place of vLLM."""
    module = ModuleType("vllm")
    for name, value in {"__version__": "0.99", "LLM": StandInModel, "SamplingParams": StandInParameters}.items():
        setattr(module, name, value)
    monkeypatch.setitem(sys.modules, "vllm", module)
    monkeypatch.setattr(StandInModel, "calls", [])
    monkeypatch.setattr(StandInModel, "running", [])
    return StandInModel


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SampleSettings:
    monkeypatch.chdir(tmp_path)
    Path("prompts.txt").write_text("What is this?\nName three.\nWhy?\n", encoding="utf-8")
    write_json(Path("mine.json"), CONFIGURATIONS)
    write_causal(Path("oasst"))
    return SampleSettings("prompts.txt", ("mine.json",), engine="vllm", seed=7)


def sample(settings: SampleSettings, output: str, model: str = "oasst") -> Any:
    (path,) = run([model], settings, Path(output), target=io.StringIO(), errors=io.StringIO())
    return json.loads(path.read_bytes())


def test_greedy_replies_and_the_form_of_the_report_are_those_of_our_engine(
    settings: SampleSettings, vllm: type[StandInModel]
) -> None:
    theirs, ours = sample(settings, "theirs"), sample(replace(settings, engine="tunesmith"), "ours")
    assert theirs["args"]["engine"] == "vllm 0.99"
    assert ours["args"]["engine"] == "tunesmith"
    assert list(theirs) == list(ours)
    for their_prompt, our_prompt in zip(theirs["prompts"], ours["prompts"], strict=True):
        assert their_prompt["results"][0] == our_prompt["results"][0]
    assert "<|endoftext|>" in json.dumps(theirs["prompts"]), "a stop token is kept"


def test_vllm_is_given_the_parameters_and_a_seed_for_each_reply(
    settings: SampleSettings, vllm: type[StandInModel]
) -> None:
    sample(settings, "out")
    sampled = [given for given in vllm.calls if given.temperature > 0]
    assert len(sampled) == 6
    assert len({given.seed for given in sampled}) == 6
    for given in sampled:
        assert (given.temperature, given.top_k, given.top_p) == (0.7, 50, 0.9), "top_k is filled in as by the original"
        assert (given.repetition_penalty, given.min_tokens, given.max_tokens) == (1.1, 2, 9)
        assert given.ignore_eos
        assert not given.detokenize
        assert given.stop_token_ids == sorted(given.stop_token_ids) != []


def test_what_vllm_lacks_is_refused_by_name(settings: SampleSettings, vllm: type[StandInModel]) -> None:
    for name, value in {"typical_p": 0.5, "num_beams": 3}.items():
        write_json(
            Path("mine.json"), {"configurations": [{"name": "a", "generate_args": {"do_sample": True, name: value}}]}
        )
        with pytest.raises(UsageError, match=f"vLLM has no {name}"):
            sample(settings, f"out-{name}")


def test_a_model_is_released_before_the_next_one_and_a_reward_model_are_opened(
    settings: SampleSettings, vllm: type[StandInModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: list[weakref.ref[StandInModel]] = []
    started = StandInModel.__init__

    def start(self: StandInModel, model: str, skip_tokenizer_init: bool) -> None:
        assert not any(each() for each in alive)
        alive.append(weakref.ref(self))
        started(self, model, skip_tokenizer_init)

    def open_scorer(path: str) -> None:
        assert not vllm.running
        assert not any(each() for each in alive)
        raise MissingInputError("no more is needed here")

    monkeypatch.setattr(StandInModel, "__init__", start)
    write_causal(Path("other"))
    run(["oasst", "other"], settings, Path("out"), target=io.StringIO(), errors=io.StringIO())
    assert len(alive) == 2
    monkeypatch.setattr(best_of, "check_scorer", lambda path: None)
    monkeypatch.setattr(best_of, "open_reward_scorer", open_scorer)
    with pytest.raises(MissingInputError, match="no more is needed here"):
        best_of.run(
            ["oasst", "other"], settings, Path("best"), BestOfSettings("reward"),
            target=io.StringIO(), errors=io.StringIO(),
        )  # fmt: skip
    assert len(alive) == 4


def test_encoder_decoders_are_refused(settings: SampleSettings, vllm: type[StandInModel]) -> None:
    write_t5(Path("t5"))
    with pytest.raises(DataError, match="vLLM does not generate with encoder-decoders"):
        sample(settings, "out", "t5")


def test_without_vllm_the_command_for_it_is_named(settings: SampleSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(UsageError, match=r"vLLM is not installed.*pip install 'tunesmith\[vllm\]'"):
        sample(settings, "out")
