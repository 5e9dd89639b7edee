"""Is randomness passed in, and are the generators that the whole program shares left alone?"""

import ast
import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from skae._random import (
    Stream,
    derive_seed,
    draw_seed,
    global_torch_seed,
    numpy_generator,
    torch_generator,
)
from tests.helpers import global_generators_untouched

LARGEST = 2**31 - 1


def test_an_int_gives_the_same_seed_every_time():
    assert draw_seed(3) == draw_seed(3)
    assert draw_seed(3) != draw_seed(4)


def test_a_random_state_is_advanced_by_one_draw():
    state, same = np.random.RandomState(0), np.random.RandomState(0)
    first, second = draw_seed(state), draw_seed(state)
    assert first != second
    assert [first, second] == same.randint(LARGEST, size=2).tolist()


def test_none_gives_fresh_seeds_and_leaves_numpy_alone():
    with global_generators_untouched():
        seeds = {draw_seed(None) for _ in range(20)}
    assert len(seeds) == 20
    assert all(0 <= seed < LARGEST for seed in seeds)


def test_every_stream_of_every_seed_is_another():
    keys = [(), (0,), (0, 0), (1,), (1, 0), (2, 99)]
    cases = list(itertools.product((0, 1, 2, 3, 2**31 - 2), Stream, keys))
    seeds = [derive_seed(seed, stream, *key) for seed, stream, key in cases]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert seeds == [derive_seed(seed, stream, *key) for seed, stream, key in cases]
    of_torch = {
        float(torch.rand((), dtype=torch.float64, generator=torch_generator(*c[:2], *c[2])))
        for c in cases
    }
    of_numpy = {numpy_generator(seed, stream, *key).uniform() for seed, stream, key in cases}
    assert len(of_torch | of_numpy) == 2 * len(cases)


def test_seeds_for_scikit_learn_are_small():
    seeds = [derive_seed(seed, Stream.FOLDS, bits=32) for seed in range(200)]
    assert 2**31 < max(seeds) < 2**32
    assert len(set(seeds)) == len(seeds)


def test_generators_take_the_seed_of_a_stream_as_it_is():
    seed = derive_seed(3, Stream.WEIGHTS)
    one, other = torch_generator(seed), torch_generator(3, Stream.WEIGHTS)
    assert torch.equal(torch.rand(3, generator=one), torch.rand(3, generator=other))
    assert numpy_generator(seed).uniform() == numpy_generator(seed).uniform()
    assert numpy_generator(seed).uniform() != numpy_generator(seed + 1).uniform()


FILES = sorted((Path(__file__).resolve().parents[1] / "skae").rglob("*.py"))
DERIVE = {"derive_seed", "torch_generator", "numpy_generator"}


def streams_of(source):
    """Return the name of the stream of each call that derives one; None where it is no member."""
    calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    for call in calls:
        if getattr(call.func, "id", None) not in DERIVE or len(call.args) < 2:
            continue
        given = call.args[1]
        in_table = isinstance(given, ast.Attribute) and getattr(given.value, "id", "") == "Stream"
        yield given.attr if in_table else None


def test_every_purpose_is_in_the_table_and_used():
    found = {path: list(streams_of(path.read_text(encoding="utf-8"))) for path in FILES}
    del found[next(path for path in FILES if path.name == "_random.py")]
    used = [name for names in found.values() for name in names]
    assert None not in used
    assert set(used) == set(Stream.__members__)
    # For one of two in each: new codes come from a sampler or from the prior, a score looks at
    # draws or on spheres, and a code has a sparsity or a prior.
    twice = {name for name, count in Counter(used).items() if count > 1}
    assert twice == {"CODES", "SCORE_POINTS", "STATE_AT_START"}


def test_checker_knows_a_purpose_that_is_not_in_the_table():
    source = "derive_seed(s, 1)\nnumpy_generator(s, Stream.ROWS, 2)\ntorch_generator(s)"
    assert list(streams_of(source)) == [None, "ROWS"]


def test_derived_streams_are_not_correlated():
    draws = torch.stack([torch.rand(4000, generator=torch_generator(0, k)) for k in Stream])
    correlation = torch.corrcoef(draws) - torch.eye(len(Stream))
    assert correlation.abs().max() < 5 / 4000**0.5


def test_generators_of_the_same_key_are_equal_and_separate():
    with global_generators_untouched():
        one, other = (torch_generator(7, Stream.ROWS) for _ in range(2))
        first = torch.rand(3, generator=one)
        assert torch.equal(first, torch.rand(3, generator=other))
        assert not torch.equal(first, torch.rand(3, generator=one))


def test_global_seed_holds_inside_the_block_alone():
    with global_generators_untouched():
        drawn = []
        for seed in (0, 0, 1):
            with global_torch_seed(seed):
                drawn.append(torch.rand(3))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_global_generator_is_put_back_after_an_error():
    with global_generators_untouched(), pytest.raises(KeyError), global_torch_seed(0):
        torch.rand(3)
        raise KeyError


def test_a_device_that_is_not_used_yet_starts_with_the_seed_of_the_program(monkeypatch):
    seeds = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeds.append)
    with global_torch_seed(7):
        pass
    assert not seeds


def test_generators_of_devices_in_use_are_seeded_and_put_back(monkeypatch):
    cuda, mps = (torch.Generator().manual_seed(place) for place in (1, 2))
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "default_generators", (cuda,))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    for name, method in (
        ("get_rng_state", mps.get_state),
        ("set_rng_state", mps.set_state),
        ("manual_seed", mps.manual_seed),
    ):
        monkeypatch.setattr(torch.mps, name, method)
    before = cuda.get_state(), mps.get_state()
    with global_torch_seed(7):
        drawn = [torch.rand(3, generator=generator) for generator in (cuda, mps)]
    expected = torch.rand(3, generator=torch.Generator().manual_seed(7))
    assert all(torch.equal(one, expected) for one in drawn)
    assert torch.equal(cuda.get_state(), before[0])
    assert torch.equal(mps.get_state(), before[1])


def test_nearby_seeds_give_different_streams():
    streams = [torch.rand(4, generator=torch_generator(seed, Stream.WEIGHTS)) for seed in range(5)]
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(streams, 2))
