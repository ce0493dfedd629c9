"""One training step and one greedy reply by stock transformers. This file imports nothing of Tunesmith.

    python stock_process.py train|read JOBS.json

``train``: for every job the loss, the gradients and the weights after one step of AdamW, with the model's own eager
attention and without noise. ``read``: for every job the logits of a text and a greedy reply. A job is a directory with
a model and with ``job.json``; results are ``NAME.safetensors`` and ``NAME.json`` in it, NAME being an entry of the job.
"""

from __future__ import annotations

import json
import sys
import traceback
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    PreTrainedModel,
    logging,
)

LEARNING_RATE, EPSILON, WEIGHT_DECAY = 1e-2, 1e-3, 0.1


def load(directory: Path) -> PreTrainedModel:
    config = AutoConfig.from_pretrained(directory)
    auto = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    model = auto.from_pretrained(directory, attn_implementation="eager", use_safetensors=True)
    if hasattr(model.config, "rescale_every"):  # RWKV would train weights that it divides in place
        model.config.rescale_every = 0
    return model.float().eval()


def train(directory: Path, job: dict) -> tuple[dict, dict]:
    """The loss is the mean over all targets of all threads; decay as in the trainer of transformers."""
    model = load(directory)
    total = sum(len(thread["targets"]) for thread in job["threads"])
    loss = 0.0
    for thread in job["threads"]:
        logits = model(input_ids=torch.tensor([thread["ids"]]), use_cache=False).logits[0]
        chosen = logits[torch.tensor(thread["sources"])]
        part = torch.nn.functional.cross_entropy(chosen, torch.tensor(thread["targets"]), reduction="sum") / total
        part.backward()
        loss += part.item()
    tensors = {f"gradient.{name}": p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    trained = [p for p in model.parameters() if p.grad is not None]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    torch.optim.AdamW(groups, lr=LEARNING_RATE, eps=EPSILON).step()
    tensors |= {f"weight.{name}": p.detach().clone() for name, p in model.named_parameters()}
    return {"loss": loss}, tensors


def logits_of(model: PreTrainedModel, text: list, reply: list) -> torch.Tensor:
    """Without a cache: [text and reply, vocabulary]; of an encoder-decoder [start and reply, vocabulary]."""
    if model.config.is_encoder_decoder:
        begun = torch.tensor([[model.config.decoder_start_token_id, *reply]])
        return model(input_ids=torch.tensor([text]), decoder_input_ids=begun, use_cache=False).logits[0]
    return model(input_ids=torch.tensor([[*text, *reply]]), use_cache=False).logits[0]


@torch.no_grad()
def read(directory: Path, job: dict) -> tuple[dict, dict]:
    """Logits and a greedy reply without a cache, and the ids that the tokenizer of the directory gives texts."""
    model = load(directory)
    text, reply = job["text"], []
    logits = logits_of(model, text, job.get("begun", []) if model.config.is_encoder_decoder else [])
    for _ in range(job["new"]):
        reply.append(int(logits_of(model, text, reply)[-1].argmax()))
    found = {"reply": reply}
    if "words" in job:
        tokenizer = AutoTokenizer.from_pretrained(directory)
        found |= {"ids": tokenizer(job["words"], add_special_tokens=False)["input_ids"]}
        found |= {"eos": tokenizer.eos_token_id, "pad": tokenizer.pad_token_id, "config": model.config.eos_token_id}
    if "chat" in job:
        prompt = tokenizer.apply_chat_template(job["chat"], add_generation_prompt=True, return_dict=True)
        found |= {"chat": list(prompt["input_ids"])}
    return found, {"logits": logits}


def main(work: str, jobs: str) -> None:
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    for name in json.loads(Path(jobs).read_text()):
        directory = Path(name)
        job = json.loads((directory / "job.json").read_text())
        try:
            found, tensors = (train if work == "train" else read)(directory, job)
            save_file(
                {key: value.contiguous() for key, value in tensors.items()}, directory / f"{job['name']}.safetensors"
            )
        except Exception as error:
            found = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
            if "--traceback" in sys.argv:
                traceback.print_exc()
        (directory / f"{job['name']}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
