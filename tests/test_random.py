"""Is randomness passed in, and are the generators that the whole program shares left alone?"""

import itertools

import numpy as np
import pytest
import torch

from skae._random import derive_seed, draw_seed, global_torch_seed, torch_generator
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


def test_derived_seeds_depend_on_the_seed_and_on_every_part_of_the_key():
    for keys in ([(0,), (1,), (2,), (99,)], [(0, 0), (0, 1), (1, 0), (1, 1), (2, 99)]):
        seeds = [derive_seed(seed, *key) for seed in (0, 1) for key in keys]
        assert len(set(seeds)) == len(seeds)
        assert seeds == [derive_seed(seed, *key) for seed in (0, 1) for key in keys]
        assert all(0 <= seed < 2**63 for seed in seeds)


def test_derived_streams_are_not_correlated():
    draws = torch.stack([torch.rand(4000, generator=torch_generator(0, k)) for k in range(6)])
    correlation = torch.corrcoef(draws) - torch.eye(6)
    assert correlation.abs().max() < 5 / 4000**0.5


def test_generators_of_the_same_key_are_equal_and_separate():
    with global_generators_untouched():
        one, other = torch_generator(7, 1), torch_generator(7, 1)
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


def test_nearby_seeds_give_different_streams():
    streams = [torch.rand(4, generator=torch_generator(seed)) for seed in range(5)]
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(streams, 2))
