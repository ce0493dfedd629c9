"""What the model cards of the five published systems have, and where a card of ours has it or why it has not.

The lists were taken from the cards themselves: fields of their metadata, and headings or other parts of their text.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Absent:
    """reason: why a card has no such field or section."""

    reason: str


RANDOM = Absent("with the layer tiny the weights are random, so there is no base model")
NOT_MEASURED = Absent("a statement about the weights of the original that nobody has measured on these")
OWNER = Absent("who owns the original has not trained this model; card.developer and card.contact say who has")
IMAGE = Absent("an image on another server; a card loads nothing")
MOTIVE = Absent("why the author of the original made it; card.sections has a place for such texts")


@dataclass(frozen=True, slots=True)
class OriginalCard:
    """A published card.

    fields: key of the metadata -> whether ours has it (True) or why not.
    parts: part of the text -> a text that ours has for it, or why it has none.
    """

    fields: dict[str, bool | Absent] = field(default_factory=dict)
    parts: dict[str, str | Absent] = field(default_factory=dict)


DOLLY = OriginalCard(
    fields={"license": True},
    parts={
        "Summary": "trained from random weights by supervised fine-tuning on 20 records of `dolly`",
        "Summary: other sizes": Absent("other models are no part of this run; card.links has a place for them"),
        "Owner": OWNER,
        "Model Overview: parameters": "- **Model type:** `gpt_neox`,",
        "Model Overview: base": "- **Trained from:** random weights",
        "Model Overview: license of the data": "| `cc-by-sa-3.0` |",
        "Usage: transformers": "AutoModelForCausalLM.from_pretrained(",
        "Usage: pipeline": 'pipeline("text-generation", "DIRECTORY")',
        "Known Limitations: Performance": NOT_MEASURED,
        "Known Limitations: Dataset": "## Limitations and bias",
        "Benchmark Metrics": (
            "| model | openbookqa | arc_easy | winogrande | hellaswag | arc_challenge | piqa | boolq | gmean |"
        ),
        "Benchmark Metrics: other models": "| `other`, plain prompts |",
        "Citation": "@online{DatabricksBlog2023DollyV2,",
    },
)
OASST = OriginalCard(
    fields={"license": True, "language": True, "tags": True, "pipeline_tag": True, "widget": True},
    parts={
        "first paragraph": "by supervised fine-tuning on",
        "Developed by": OWNER,
        "Model type": "- **Model type:**",
        "Language": "- **Language:** English (`en`)",
        "Finetuned from": "- **Trained from:** random weights",
        "Code": "https://github.com/LAION-AI/Open-Assistant/tree/main/model/model_training",
        "Demo": Absent("a page of replies of the original; the comparison page of a run is linked where there is one"),
        "License": "- **License:** `apache-2.0`",
        "Contact": OWNER,
        "Prompting: tokens": "`<|prompter|>`",
        "Prompting: end of a turn": "A reply ends with `<|endoftext|>`",
        "Prompting: input example": (
            "<|prompter|>What is a meme, and what's the history behind this word?<|endoftext|><|assistant|>"
        ),
        "Limitations: base model": Absent("the limitations of a base model are in its own card, which is linked"),
        "Limitations: mathematics and code": NOT_MEASURED,
        "Limitations: hallucinations": "Replies may be wrong and look convincing.",
        "Limitations: languages": "The languages found in the training data are",
    },
)
ORIGINALS: dict[str, OriginalCard] = {
    **{f"dolly-v2-{size}": DOLLY for size in ("3b", "7b", "12b")},
    "oasst-sft-1-pythia-12b": OriginalCard(
        OASST.fields, {**OASST.parts, "Example of generated continuation": "Example of a generated reply ("}
    ),
    "oasst-sft-4-pythia-12b": OriginalCard(
        OASST.fields,
        {
            **OASST.parts,
            "Dev Details: wandb": Absent("trackers are services of others; metrics.jsonl has the numbers"),
            "Dev Details: base model": "- **Trained from:** random weights",
            "Dev Details: checkpoint": "The weights are those after 2 optimizer steps",
            "Dev Details: command": "tunesmith train recipe.yaml",
            "Dev Details: data": "options:\n        lang: [bg, ca, cs, da, de, en, es,",
            "Dev Details: pythia": "truncation: window",
            "Dev Details: zero config": "shard: none",
        },
    ),
    "flan-t5-dolly-xxl": OriginalCard(
        fields={"license": True, "extra_gated_prompt": True, "extra_gated_fields": True},
        parts={
            "what it is": "This is an encoder-decoder language model of",
            "who made it and when": OWNER,
            "screenshot": IMAGE,
            "fine-tuning details: lengths": "| `max_length` | `256` |",
            "fine-tuning details: steps": "The weights are those after 2 optimizer steps",
            "fine-tuning details: batch": "| `total_train_batch_size` | `4 examples` |",
            "fine-tuning details: optimizer": "| `optimizer` | `adafactor:",
            "fine-tuning details: learning rate": "| `learning_rate` | `0.01` |",
            "fine-tuning details: selected checkpoint": "name: validation/bleu",
            "line breaks": "`<_LB_>`",
            "line breaks: code": "reply = reply.replace('_LB_>', '\\n')",
            "why?": MOTIVE,
            "why?: observations": NOT_MEASURED,
            "why release?": MOTIVE,
        },
    ),
    "tulu-2.5-dpo-13b-uf-overall": OriginalCard(
        fields={"model-index": True, "datasets": True, "language": True, "base_model": True, "license": True},
        parts={
            "banner": IMAGE,
            "first paragraph": "by direct preference optimization (DPO) on 20 records",
            "paper": "<https://arxiv.org/abs/2406.09279>",
            "Model type": "- **Model type:** `llama`,",
            "Language(s)": "- **Language:** English (`en`)",
            "License": "- **License:** `apache-2.0`",
            "Finetuned from model": (
                "- **Trained from:** [`allenai/tulu-2-13b`](https://huggingface.co/allenai/tulu-2-13b)"
            ),
            "Repository": "<https://github.com/allenai/open-instruct>",
            "Dataset": "https://huggingface.co/datasets/allenai/tulu-2.5-preference-data",
            "Model Family": "https://huggingface.co/collections/allenai/",
            "Input Format": (
                "<|user|>\nWrite a short letter to a friend about the first day of spring.\n<|assistant|>\n"
            ),
            "Input Format: line break": "its last line ends with a line break",
            "Input Format: chat template": "apply_chat_template",
            "Intended uses": "## Intended use",
            "Intended uses: data of the base model": Absent("the base model's own card has its data"),
            "Bias, Risks, and Limitations": "the model can write problematic text",
            "Bias: corpus of Llama 2": Absent("the base model's own card has its data"),
            "hyperparameters: learning_rate": "| `learning_rate` | `0.001` |",
            "hyperparameters: total_train_batch_size": "| `total_train_batch_size` | `4 examples` |",
            "hyperparameters: optimizer": "| `optimizer` | `adamw: betas (0.9, 0.999), epsilon 1e-08",
            "hyperparameters: lr_scheduler_type": "| `lr_scheduler_type` | `linear: warmup_steps 0, warmup_ratio 0.1",
            "hyperparameters: num_epochs": "| `max_steps` | `2` |",
            "Citation": "@misc{ivison2024unpacking,",
        },
    ),
}
