"""What llama.cpp reads from a GGUF file. This file imports nothing of Tunesmith.

    python llama_process.py JOB.json RESULT.json

A job has the name of the file, texts whose ids are wanted, prompts (ids) whose greedy replies are wanted with their
largest number of tokens, the ids that end a reply, and one conversation whose prompt by the chat template is wanted.
Weights, activations and the cache are in float32 if the file is.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from llama_cpp import GGML_TYPE_F32, Llama
from llama_cpp.llama_chat_format import Jinja2ChatFormatter


def greedy(model: Llama, prompt: list, new: int, stops: list) -> list:
    found = []
    for token in model.generate(prompt, top_k=1, temp=0.0, repeat_penalty=1.0):
        found.append(int(token))
        if token in stops or len(found) == new:
            break
    return found


def main(job_file: str, result_file: str) -> None:
    job = json.loads(Path(job_file).read_text())
    model = Llama(
        job["file"], n_ctx=job["context"], n_threads=1, n_threads_batch=1, verbose=False, type_k=GGML_TYPE_F32,
        type_v=GGML_TYPE_F32, logits_all=True,
    )  # fmt: skip
    found = {"ids": [model.tokenize(text.encode(), add_bos=False, special=False) for text in job["texts"]]}
    found["replies"] = [greedy(model, prompt, job["new"], job["stops"]) for prompt in job["prompts"]]
    model.reset()
    model.eval(job["prompts"][0])
    found["logits"] = model.scores[: len(job["prompts"][0])].tolist()
    template = model.metadata["tokenizer.chat_template"]
    names = [
        model.detokenize([id], special=True).decode() if id >= 0 else ""
        for id in (model.token_bos(), model.token_eos())
    ]
    formatter = Jinja2ChatFormatter(template, bos_token=names[0], eos_token=names[1])
    prompt = formatter(messages=job["chat"]).prompt
    found["chat"] = model.tokenize(prompt.encode(), add_bos=False, special=True)
    Path(result_file).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
