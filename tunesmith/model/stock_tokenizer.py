"""Whether AutoTokenizer of transformers will read the tokenizer of an export as it is.

For some families transformers replaces the splitting of words in tokenizer.json by that of the family, whatever the
directory declares. A model of such a family with the tokenizer of another one then gets other ids in other tools.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from transformers import AutoTokenizer, PretrainedConfig, PreTrainedTokenizerBase

from tunesmith.errors import DataError
from tunesmith.model.failures import describe_failure
from tunesmith.model.load import quiet_transformers
from tunesmith.text.tokenizer.tokenizer import Tokenizer

PROBES = ("The quick brown fox jumps over 1234567 lazy dogs.", "  two spaces,\n\nlines\tand don't", "Ünïcode 你好 3.14")


def find_tokenizer_fault(config: PretrainedConfig, tokenizer: Tokenizer) -> str | None:
    """How AutoTokenizer reads the tokenizer of an export with this configuration differently; None if it does not."""
    with tempfile.TemporaryDirectory(prefix="tunesmith-") as name:
        directory = Path(name)
        config.save_pretrained(directory)
        tokenizer.save(directory)
        try:
            stock = AutoTokenizer.from_pretrained(directory)
        except Exception as error:  # a foreign file makes the library fail in any way
            return f"AutoTokenizer of transformers cannot read this tokenizer ({describe_failure(error)})"
        for text in PROBES:
            if list(stock(text, add_special_tokens=False)["input_ids"]) != list(tokenizer.encode(text)):
                return (
                    f"AutoTokenizer of transformers reads this tokenizer as that of {config.model_type} "
                    f"({type(stock).__name__}) and gives other ids; load the export with PreTrainedTokenizerFast there"
                )
    return None


def load_stock_tokenizer(directory: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a model directory as other programs read it. Raises DataError where they cannot.

    It is for comparisons with other programs. It reads control tokens that are written out in a text as such, which
    ``text.tokenizer`` never does.
    """
    with quiet_transformers():
        try:
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(directory, local_files_only=True)
        except Exception as error:  # a foreign file makes the library fail in any way
            what = f"AutoTokenizer of transformers cannot read this tokenizer ({describe_failure(error)})"
            raise DataError(what, where=directory, advice="fetch or export the model again") from error
    return tokenizer
