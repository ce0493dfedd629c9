"""Replies from vLLM, which reads the exports of causal models: the same prompts and stop tokens, its own draws.

Prompts are token ids of our renderer and replies are token ids, so vLLM's tokenizer and chat template are not used.
vLLM draws with its own generator, seeded for every request. Its replies can therefore differ from ours and, as its
arithmetic depends on the batch, from one call to the next.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from tunesmith.draws import request_seed
from tunesmith.errors import DataError, UsageError
from tunesmith.generate.engine import GeneratedReply
from tunesmith.generate.penalties import NO_ADJUSTMENTS
from tunesmith.generate.requests import FinishReason, ReplyRequest
from tunesmith.generate.sampling import SamplingParameters
from tunesmith.model.directory import read_directory
from tunesmith.text.formats.registry import ENCODER_DECODER
from tunesmith.text.tokens.render import Renderer

REQUESTS_OF_A_CALL = 256
"""vLLM batches by itself; a call returns when all of its replies are done, so calls are kept short."""

INSTALLATION = "install it on a machine with a GPU: pip install 'tunesmith[vllm]'; or leave --engine out"


class VllmEngine:
    """A causal export that vLLM has loaded.

    directory: the model directory.
    renderer: of its prompt format.
    Raises UsageError if vLLM is missing, DataError for an encoder-decoder or a model without a limit of its context.
    """

    def __init__(self, directory: Path, renderer: Renderer) -> None:
        if renderer.format.name in ENCODER_DECODER:
            what = "vLLM does not generate with encoder-decoders of this kind"
            raise DataError(what, where=directory, advice="leave --engine out")
        try:
            import vllm
        except ImportError as error:
            raise UsageError("vLLM is not installed", where="--engine vllm", advice=INSTALLATION) from error
        self.renderer = renderer
        self.version: str = vllm.__version__
        self._make_parameters = vllm.SamplingParams
        self._model = vllm.LLM(model=str(directory), skip_tokenizer_init=True)
        self.context: int = self._model.llm_engine.model_config.max_model_len
        entries = read_directory(directory).config.entries
        rows, size = int(entries.get("vocab_size", 0)), renderer.tokenizer.size
        self._allowed = list(range(size)) if rows > size else None

    def close(self) -> None:
        """Give the memory of the device back; vLLM takes a share of it that does not depend on what others hold."""
        core = getattr(self._model.llm_engine, "engine_core", None)  # its own process, which would outlive this object
        if core is not None:
            core.shutdown()
        del core, self._model
        gc.collect()  # vLLM's objects refer to each other
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    @property
    def notice(self) -> str | None:
        """What the user should know about the replies."""
        return f"vLLM {self.version} generates: its replies are not the same in every call"

    def replies(self, requests: Sequence[ReplyRequest], batch_size: int = 0) -> Iterator[tuple[int, GeneratedReply]]:
        """(index, reply) of every request, in their order. batch_size: has no effect, vLLM chooses its own.

        Raises UsageError for sampling parameters that vLLM does not have.
        """
        parameters = [self._parameters(request) for request in requests]
        for start in range(0, len(requests), REQUESTS_OF_A_CALL):
            part = slice(start, start + REQUESTS_OF_A_CALL)
            prompts = [{"prompt_token_ids": list(request.prompt)} for request in requests[part]]
            outputs = self._model.generate(prompts, parameters[part], use_tqdm=False)
            for index, output in enumerate(outputs, start):
                yield index, self._reply(output.outputs[0], requests[index])

    def _parameters(self, request: ReplyRequest) -> Any:
        sampling = request.sampling
        _check_parameters(sampling)
        assert request.adjustments == NO_ADJUSTMENTS, "reports have no adjustments of logits"
        return self._make_parameters(
            temperature=sampling.temperature if sampling.do_sample else 0.0,
            top_k=sampling.top_k,
            top_p=sampling.top_p,
            repetition_penalty=sampling.repetition_penalty,
            min_tokens=sampling.min_new_tokens,
            max_tokens=min(sampling.max_new_tokens, self.context - len(request.prompt)),
            stop_token_ids=sorted(self.renderer.stop_ids),
            ignore_eos=True,
            allowed_token_ids=self._allowed,
            detokenize=False,
            seed=request_seed(request.seed, request.sample),
        )

    def _reply(self, completion: Any, request: ReplyRequest) -> GeneratedReply:
        """completion: vLLM's ``CompletionOutput``, whose ids may lack the token that ended it."""
        ids, last = tuple(completion.token_ids), completion.stop_reason
        if isinstance(last, int) and ids[-1:] != (last,):
            ids = (*ids, last)
        stopped = ids[-1] in self.renderer.stop_ids
        full = len(request.prompt) + len(ids) >= self.context
        finish: FinishReason = "stop" if stopped else "context" if full else "length"
        return GeneratedReply(self.renderer.parse(list(ids)).text, ids, stopped, 0, finish)


def _check_parameters(sampling: SamplingParameters) -> None:
    """Raises UsageError for a parameter that vLLM does not have."""
    unknown = {
        "typical_p": sampling.do_sample and sampling.typical_p < 1,
        "num_beams": sampling.num_beams > 1,
        "penalty_alpha": sampling.is_contrastive,
    }
    for name, used in unknown.items():
        if used:
            advice = "choose other configurations, or leave --engine out"
            raise UsageError(f"vLLM has no {name}", where="--sampling", advice=advice)
