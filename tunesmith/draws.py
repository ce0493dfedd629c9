"""Every seeded draw of a run: each is a function of its arguments alone.

No generator is shared and none has a state, so a draw does not depend on the number of workers or processes, on other
draws, or on where a run was stopped. The key strings are part of the results: another string gives other numbers.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

KEY_BYTES = 16
"""Length of a content key."""

GOLDEN = 0x9E3779B97F4A7C15
"""2**64 divided by the golden ratio: the increment of SplitMix64 (Steele, Lea and Flood 2014)."""

POSITIVE = 2**63 - 1
"""The largest seed that torch's generators take."""


def stream_seed(seed: int, stream: str) -> int:
    """The seed of one kind of draw, so that no two kinds share their numbers.

    seed: of the recipe.
    stream: what is drawn, such as ``order`` or ``noise``.
    """
    return _integer(f"{seed}/{stream}") >> 1


def permutation(count: int, seed: int, epoch: int, stream: str = "order") -> npt.NDArray[np.int64]:
    """A random order of ``count`` examples in one epoch, int64 [count].

    Examples are sorted by random numbers of Philox 4x64-10 (Salmon et al. 2011), a generator whose raw output never
    changes, unlike that of ``Generator.permutation``, which may change between releases of numpy.
    """
    return np.argsort(_words(f"{seed}\n{stream}\n{epoch}", count), kind="stable").astype(np.int64)


def resamples(trials: int, count: int) -> npt.NDArray[np.int64]:
    """The trials of ``count`` bootstrap samples with replacement, int64 [count, trials]; the same in every process."""
    words = _words(f"resamples\n{trials}", trials * count).reshape(count, trials)
    return ((words >> np.uint64(32)) * np.uint64(trials) >> np.uint64(32)).astype(np.int64)


def sign_flips(trials: int, count: int) -> npt.NDArray[np.bool_]:
    """Which trials have the opposite sign in each of ``count`` random sign changes, bool [count, trials]."""
    return (_words(f"signs\n{trials}", trials * count) >> np.uint64(63)).astype(np.bool_).reshape(count, trials)


def outcome_counts(outcomes: Sequence[int], count: int, stream: str) -> npt.NDArray[np.int64]:
    """How often each outcome occurs in ``count`` bootstrap samples of trials that are known by their outcomes only.

    outcomes: how many of the trials have each of the k outcomes.
    stream: samples of different streams are independent.
    Returns int64 [count, k].
    """
    digest = hashlib.sha256(f"outcomes\n{stream}".encode()).digest()
    generator = np.random.Generator(np.random.Philox(key=np.frombuffer(digest[:16], dtype="<u8").astype(np.uint64)))
    trials = sum(outcomes)
    shares = np.array(outcomes, np.float64) / max(1, trials)
    return generator.multinomial(trials, shares, size=count).astype(np.int64)


def holdout_order(keys: npt.NDArray[np.uint8], seed: int) -> npt.NDArray[np.uint64]:
    """A hash of every content key that differs from seed to seed; the smallest are held out.

    keys: uint8 [n, 16].
    Returns uint64 [n].
    """
    halves = np.ascontiguousarray(keys).view("<u8").astype(np.uint64)
    digest = hashlib.sha256(f"{seed}\nvalidation".encode()).digest()
    salt = np.frombuffer(digest[:KEY_BYTES], dtype="<u8")
    return _mixed(_mixed(halves[:, 0] ^ salt[0]) ^ halves[:, 1] ^ salt[1])


def noise_seed(seed: int, epoch: int, example: int, copy: int = 0) -> int:
    """The seed of an example's dropout in one epoch.

    copy: which of its copies in the epoch it is.
    """
    return _integer(_with_copy(f"{seed}/noise/{epoch}/{example}", copy)) >> 1


def crop_seed(seed: int, epoch: int, example: int, copy: int = 0) -> int:
    """The seed of the windows into an example's long threads in one epoch; ``copy`` as in ``noise_seed``."""
    return _integer(_with_copy(f"{seed}/window/{epoch}/{example}", copy)) >> 1


def crop_draws(seed: int, end: int) -> tuple[float, int]:
    """A number in [0, 1) and one of 64 bits for the thread that ends in segment ``end``."""
    digest = hashlib.blake2b(f"{seed}/window/{end}".encode(), digest_size=16).digest()
    return int.from_bytes(digest[:8], "little") / 2**64, int.from_bytes(digest[8:], "little")


def label_draws(seed: int, texts: Sequence[str], names: Sequence[str]) -> dict[str, tuple[float, float]]:
    """For every label of a reply two numbers in [0, 1): one for its dropout, one for its place in the order.

    texts: the messages up to and with the reply.
    """
    path = hashlib.blake2b(json.dumps([seed, *texts]).encode(), digest_size=16).hexdigest()
    found = {}
    for name in names:
        digest = hashlib.blake2b(f"{path}/{name}".encode(), digest_size=8).digest()
        found[name] = (int.from_bytes(digest[:4], "little") / 2**32, int.from_bytes(digest[4:], "little") / 2**32)
    return found


def reply_choice(seed: int, texts: Sequence[str], count: int) -> int:
    """Which of ``count`` rejected replies is kept, from the texts of the prompt and of the best reply."""
    digest = hashlib.sha256("\0".join((str(seed), *texts)).encode()).digest()
    return int.from_bytes(digest[:8], "little") % count


def shuffle_key(seed: int, line: bytes) -> int:
    """The position of a line in a shuffle, as a number of 64 bits."""
    return int.from_bytes(hashlib.blake2b(line, digest_size=8, key=str(seed).encode()).digest(), "little")


def question_order(seed: int, key: str) -> bytes:
    """The position of a validation prompt in the order of choice."""
    return hashlib.blake2b(f"{seed}/{key}".encode(), digest_size=16).digest()


def sample_number(iteration: int, prompt: int, copy: int, sample: int) -> int:
    """The ``sample`` argument of ``token_uniform`` for one reply of a rollout."""
    return _integer(f"{iteration}/{prompt}/{copy}/{sample}")


def reply_number(prompt: Sequence[int], configuration: str, sample: int) -> int:
    """The ``sample`` argument of ``token_uniform`` for a reply that depends on nothing but these and the seed.

    prompt: token ids.
    configuration: the name of the sampling configuration; may be empty.
    sample: which of the replies to this prompt with this configuration it is, from 0.
    """
    return _integer(f"reply/{json.dumps([list(prompt), configuration, sample])}")


def request_seed(seed: int, sample: int) -> int:
    """The seed of another engine's generator for one reply; ``sample`` as of ``token_uniform``."""
    return _integer(f"request/{seed}/{sample}") >> 1


def token_uniform(seed: int, sample: int, token: int) -> float:
    """The number in [0, 1), of 53 random bits, that draws one token (BLAKE2b as a counter-based generator)."""
    message = f"{seed} {sample} {token}".encode()
    (bits,) = struct.unpack("<Q", hashlib.blake2b(message, digest_size=8, person=b"tunesmith-draw").digest())
    return float(bits >> 11) * 2.0**-53


def module_seed(seed: int, index: int) -> int:
    """The seed of the dropout in one module, from that of the example and the index of the module."""
    return (seed ^ ((index + 1) * GOLDEN)) & POSITIVE


def rounding_keys(seed: int, update: int, tensor: str) -> tuple[int, int]:
    """Two numbers of 32 bits, with a sign, from which the random bits of one rounding of a tensor follow.

    update: updates of the tensor before this one.
    """
    digest = hashlib.blake2b(f"{seed}/rounding/{update}/{tensor}".encode(), digest_size=8).digest()
    first, second = struct.unpack("<ii", digest)
    return first, second


def row_seed(seed: int, row: int) -> int:
    """The seed of one padded row, from that of its example and the index of the row among the example's rows."""
    return (seed + row * GOLDEN) & POSITIVE


def _words(text: str, count: int) -> npt.NDArray[np.uint64]:
    """Random numbers of 64 bits that follow from a text, uint64 [count]."""
    digest = hashlib.sha256(text.encode()).digest()
    key = np.frombuffer(digest[:16], dtype="<u8").astype(np.uint64)
    return np.random.Philox(key=key).random_raw(count)


def _integer(text: str) -> int:
    """A number of 64 bits."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _with_copy(text: str, copy: int) -> str:
    return f"{text}/{copy}" if copy else text


def _mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finalizer of SplitMix64: every bit of the input moves half the bits of the output."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
