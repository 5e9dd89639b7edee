"""Randomness that is passed in: seeds, streams, and the caller's global state left alone.

A call that draws has one seed (`draw_seed`). Each purpose has a stream of its own, named in
`Stream`, whose seed is derived from that of the call: no two purposes share random numbers, and one
that draws more or less does not move another.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum, unique

import numpy as np
import torch
from sklearn.utils import check_random_state

_LARGEST_SEED = 2**31 - 1


@unique
class Stream(IntEnum):
    """What random numbers are drawn for. A new purpose is a new line with a new number."""

    # From the seed of a fit; some have a generator for each epoch.
    WEIGHTS = 1  # first weights of encoder and decoder
    SCORE_POINTS = 2  # where the score of a posterior looks
    BATCHES = 3  # order of rows and sampled columns, by epoch
    TRAINING = 4  # noise and draws from the posterior, by epoch
    VALIDATION = 5  # the same for rows held out, alike in all epochs
    HELD_OUT_ROWS = 6  # which rows are held out
    MODULES_OF_USERS = 7  # what modules draw from torch's global generator, by epoch
    DENSITY_OF_CODES = 8  # the fit of a sampler
    START = 18  # of a start in closed form
    WEIGHTS_OF_FEATURES = 19  # first weights of the decoder of the features of texts
    WEIGHTS_OF_SEARCH = 21  # of the decoder of a search for the size
    SHUFFLED_COLUMNS = 22  # how much columns go together by chance, in such a search
    FACTORS_OF_SEARCH = 23  # of the factor analyses that its network is compared with
    STATE_AT_START = 17  # what sparsities and priors let start at random
    LEVELS = 31  # the fits of the levels of a stack, by level

    # From the seed of a call of `sample`.
    CODES = 9
    TOTALS = 10
    ROWS = 11  # given code and total

    # From the seed of a fit of the detector.
    FOLDS = 12
    MEMBERS = 13  # by member
    CALIBRATION_ROWS = 14  # which rows say where the threshold is

    # From the seed of a call of `hidden_entries_score`.
    HIDDEN_ENTRIES = 20  # which are hidden together, and how they are rounded

    # The same for every fit: from the seed 0.
    ORDER_OF_DISTINCT_ROWS = 15
    KEYS_OF_ROWS = 16  # random vectors that rows are known again by


def draw_seed(random_state) -> int:
    """Return one seed for everything that a call draws.

    Parameters
    ----------
    random_state : int, RandomState or None
        An int gives the same seed every time. A ``RandomState`` is advanced by one draw. None
        takes fresh entropy from the operating system, so that numpy's global generator is
        neither read nor advanced.
    """
    if random_state is None:
        return secrets.randbelow(_LARGEST_SEED)
    return int(check_random_state(random_state).randint(_LARGEST_SEED))


def derive_seed(seed: int, stream: Stream, *key: int, bits: int = 63) -> int:
    """Return the seed of a stream.

    Parameters
    ----------
    seed : int
        Of the call, not negative.
    stream : Stream
    *key : int
        Which of the generators of the stream (an epoch, a member), not negative. Each key has a
        seed of its own, also one that is longer by zeros.
    bits : int, default=63
        Size of the result; scikit-learn takes no more than 32.
    """
    words = _sequence(seed, stream, *key).generate_state(1, np.uint64)
    return int(words[0]) >> (64 - bits)


def torch_generator(
    seed: int, stream: Stream | None = None, *key: int, device: str | torch.device = "cpu"
) -> torch.Generator:
    """Return a torch generator on ``device``, for a stream of a call.

    ``stream`` and ``key`` are those of `derive_seed`; with None the seed is that of a stream.
    """
    own = seed if stream is None else derive_seed(seed, stream, *key)
    return torch.Generator(device=device).manual_seed(own)


def numpy_generator(seed: int, stream: Stream | None = None, *key: int) -> np.random.RandomState:
    """Return a numpy generator, of the kind that scikit-learn takes; else as `torch_generator`."""
    whole_key = key if stream is None else (stream, *key)
    return np.random.RandomState(np.random.MT19937(_sequence(seed, *whole_key)))


def _sequence(seed: int, *key: int) -> np.random.SeedSequence:
    # Entropy and key apart: of entropy alone numpy ignores zeros at the end.
    return np.random.SeedSequence(seed, spawn_key=key)


@contextmanager
def global_torch_seed(seed: int) -> Iterator[None]:
    """Seed torch's global generators inside the block and put them back afterwards.

    Only for modules written by users, which draw their weights and their dropout from the global
    generators; everything in skae itself takes a generator as an argument.
    """
    generators = [torch.default_generator]
    # A CUDA device that the program has not used is not looked at, which would start it up, nor
    # seeded, which torch would do later, and in the place of a seed of the program's own.
    if torch.cuda.is_initialized():
        generators += torch.cuda.default_generators
    before = [generator.get_state() for generator in generators]
    mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
    try:
        for generator in generators:
            generator.manual_seed(seed)
        if mps is not None:
            torch.mps.manual_seed(seed)
        yield
    finally:
        for generator, state in zip(generators, before, strict=True):
            generator.set_state(state)
        if mps is not None:
            torch.mps.set_rng_state(mps)
