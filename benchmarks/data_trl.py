"""TRL's side of ``benchmarks.data``: ``python -m benchmarks.data_trl INPUTS RESULT default|processes``.

The trainer prepares its data when it is constructed. The time is that of constructing one with all records and a very
small model, less that of constructing one with eight records; reading the file is counted.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from datasets import Dataset
from transformers import AutoTokenizer, GPTNeoXConfig, GPTNeoXForCausalLM
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from benchmarks.measurement import THREADS
from benchmarks.sft_trl import read_texts

FEW = 8
MODES = {"default": None, "processes": THREADS}
"""Mode -> ``dataset_num_proc``, the number of processes that TRL prepares the data in; None is its default, one."""


def construction_seconds(inputs: Path, rows: Dataset, processes: int | None) -> float:
    """The seconds that constructing a trainer with these rows takes, with data prepared in ``processes`` processes."""
    shape = GPTNeoXConfig(
        vocab_size=60000, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
    )
    model = GPTNeoXForCausalLM(shape)
    tokenizer = AutoTokenizer.from_pretrained(inputs / "tokenizer")
    settings = SFTConfig(
        output_dir=str(inputs / "trl"),
        use_cpu=True,
        bf16=False,
        report_to="none",
        eos_token="### End",
        dataset_num_proc=processes,
    )
    began = time.perf_counter()
    SFTTrainer(model=model, args=settings, train_dataset=rows, processing_class=tokenizer)
    return time.perf_counter() - began


def main() -> None:
    inputs, result, processes = Path(sys.argv[1]), Path(sys.argv[2]), MODES[sys.argv[3]]
    few = read_texts(inputs).select(range(FEW))
    construction_seconds(inputs, few, processes)  # so that work that is done only once is not counted
    base = construction_seconds(inputs, read_texts(inputs).select(range(FEW)), processes)
    began = time.perf_counter()
    rows = read_texts(inputs)
    reading = time.perf_counter() - began
    found = {"seconds": reading + construction_seconds(inputs, rows, processes) - base, "records": len(rows)}
    result.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
