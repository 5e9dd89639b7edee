"""Randomness that is passed in: seeds, generators, and the caller's global state left alone."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from sklearn.utils import check_random_state

_LARGEST_SEED = 2**31 - 1


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


def derive_seed(seed: int, *key: int) -> int:
    """Return an independent seed for the stream named by ``key`` (an epoch, a purpose)."""
    return int(np.random.SeedSequence([seed, *key]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def torch_generator(seed: int, *key: int, device: str | torch.device = "cpu") -> torch.Generator:
    """Return a torch generator on ``device``, seeded for the stream named by ``key``."""
    return torch.Generator(device=device).manual_seed(derive_seed(seed, *key))


@contextmanager
def global_torch_seed(seed: int) -> Iterator[None]:
    """Seed torch's global generators inside the block and put them back afterwards.

    Only for modules written by users, which draw their weights and their dropout from the global
    generators; everything in skae itself takes a generator as an argument.
    """
    # Looking at a CUDA device that the program does not use would start it up.
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
