"""Operations of torch that are recorded once, and made again with other numbers."""

import pytest
import torch

from skae._training.side_by_side.tape import recorded

CONSTANT = torch.tensor([2.0, 3.0])


def with_gradient(x, y):
    x = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad((x @ y).tanh().square().sum(), x)
    return (gradient,)


def of_parts(x, y):
    first, second = x.split(2)
    return first.detach() @ y, second.expand_as(second) + 1


def in_place(x, y):
    x = x + 0
    return x.view(-1).add_(1.0), x.unsqueeze_(0), x @ y


def shape_changed_in_place(x, y):
    whole = x + 0
    other = whole.view(whole.shape)  # the same numbers, of which one alone is turned
    return other.t_(), whole @ y


def with_a_constant(x, y):
    return (x * CONSTANT @ y,)


@pytest.mark.parametrize(
    "function", [with_gradient, of_parts, in_place, shape_changed_in_place, with_a_constant]
)
def test_what_is_done_again_is_what_was_done(function):
    generator = torch.Generator().manual_seed(0)
    first, second, third, fourth = torch.rand(4, 4, 4, generator=generator)[:, :, :2]
    calls = []

    def noted(x, y):
        calls.append(1)
        return function(x, y)

    again = recorded(noted, [first, second[:2]])
    expected = function(third.clone(), fourth[:2])
    found = again(given := third.clone(), fourth[:2])
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert len(calls) == 1
    assert given.equal(third)


def test_nothing_is_kept_of_the_numbers_of_the_first_time():
    again = recorded(lambda x: (x.detach().expand(3).view(3),), [torch.zeros(3)])
    assert again(torch.ones(3))[0].tolist() == [1.0, 1.0, 1.0]
