"""Are columns drawn with the chances that make a sampled sum right on average?"""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from skae._kernels.columns import ColumnSampler, inclusion_probabilities
from tests.helpers import generator

frequencies = hnp.arrays(
    float, st.integers(1, 40), elements=st.sampled_from([0.0, 1.0, 2.0, 7.0, 100.0, 1e4])
)


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(frequency=frequencies, n_drawn=st.integers(0, 50))
def test_chances_add_up_to_the_number_drawn_and_grow_with_frequency(frequency, n_drawn):
    found = inclusion_probabilities(frequency, n_drawn)
    assert found.sum() == pytest.approx(min(n_drawn, len(frequency)))
    assert (found <= 1).all()
    if n_drawn:
        assert (found > 0).all()
    order = np.argsort(frequency, kind="stable")
    assert (np.diff(found[order]) >= -1e-12).all()
    if n_drawn >= len(frequency):
        assert (found == 1).all()


def test_chances_below_one_are_in_proportion_to_frequency_and_a_little_more():
    # The mean is 25; every column gets a twentieth of it on top of its own.
    frequency = np.array([10.0, 20.0, 30.0, 40.0])
    found = inclusion_probabilities(frequency, 2)
    np.testing.assert_allclose(found, 2 * (frequency + 1.25) / 105)


def test_columns_that_are_certain_leave_their_share_to_the_others():
    found = inclusion_probabilities(np.array([1000.0, 1.0, 1.0]), 2)
    np.testing.assert_allclose(found, [1.0, 0.5, 0.5])


def draws(sampler, n, seed=0):
    return list(itertools.islice(sampler.draws(generator(seed)), n))


FREQUENCY = np.array([5.0, 90.0, 1.0, 0.0, 12.0, 80.0, 3.0, 30.0, 0.0, 7.0])


def test_head_is_the_most_frequent_columns_and_always_there():
    sampler = ColumnSampler(FREQUENCY, 3, 2)
    assert sampler.head.tolist() == [1, 5, 7]
    for index, weight in draws(sampler, 50):
        assert len(index) == len(weight) == 5
        assert (index.diff() > 0).all()  # in order, and none twice
        assert index.dtype == torch.int64
        assert weight.dtype == torch.float32
        in_head = torch.isin(index, torch.tensor([1, 5, 7]))
        assert in_head.sum() == 3
        assert (weight[in_head] == 1).all()


def test_columns_are_drawn_as_often_as_their_chances_say_and_weigh_the_inverse():
    sampler, n_draws = ColumnSampler(FREQUENCY, 2, 3), 4000
    counted = np.zeros(10)
    for seed in range(20):  # the order of the tail is new in each
        for index, weight in draws(sampler, n_draws // 20, seed):
            counted[index] += 1
            chances = dict(zip(sampler.tail, sampler.probability, strict=True))
            for column, of_column in zip(index.tolist(), weight.tolist(), strict=True):
                assert of_column == pytest.approx(1 / chances.get(column, 1.0))
    deviation = np.sqrt(sampler.probability * (1 - sampler.probability) / n_draws)
    found = counted[sampler.tail] / n_draws
    assert (np.abs(found - sampler.probability) <= 4 * deviation + 1e-9).all()
    assert (counted[sampler.head] == n_draws).all()


@pytest.mark.parametrize(("n_head", "n_tail"), [(10, 0), (0, 10), (3, 7), (3, 100), (50, 50)])
def test_all_columns_count_once_where_all_are_asked_for(n_head, n_tail):
    for index, weight in draws(ColumnSampler(FREQUENCY, n_head, n_tail), 20):
        assert index.tolist() == list(range(10))
        assert (weight == 1).all()


@pytest.mark.parametrize(("n_head", "n_tail"), [(3, 0), (0, 4)])
def test_head_or_tail_may_be_missing(n_head, n_tail):
    for index, weight in draws(ColumnSampler(FREQUENCY, n_head, n_tail), 20):
        assert len(index) == len(weight) == n_head + n_tail


def test_columns_are_those_of_the_generator_and_new_in_every_draw():
    sampler = ColumnSampler(np.ones(100), 0, 5)
    first, again, other = (
        [tuple(index.tolist()) for index, _ in draws(sampler, 10, seed)] for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other
    assert len(set(first)) > 5


def test_tail_is_put_in_a_new_order_for_each_pass():
    # Neighbours in the order of a pass are seldom drawn together; in another pass they are.
    sampler = ColumnSampler(np.ones(6), 0, 2)
    pairs = {tuple(index.tolist()) for seed in range(40) for index, _ in draws(sampler, 10, seed)}
    assert len(pairs) == 15
