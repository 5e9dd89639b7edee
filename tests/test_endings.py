"""How does a training end that goes wrong? In words that are true, and with nothing left open."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback, EarlyStopping
from skorch.history import History
from torch import nn

from skae import AutoencoderTransformer
from skae._training.net import AutoencoderNet
from skae.exceptions import NonFiniteLossError
from skae.networks import CustomNetwork
from tests.helpers import QUICK, low_rank

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::skae.exceptions.PosteriorCollapseWarning"),
]

X = low_rank(60)
EXPLOSIVE = {**QUICK, "optimizer": "sgd", "learning_rate_init": 1e6, "max_iter": 50}


class Last(nn.Linear):
    """A last layer whose answers about rows that are held out are NaN in the first steps."""

    n_steps, most = 0, 0

    def forward(self, x):
        self.n_steps += self.training
        held_out = not self.training and self.n_steps
        return super().forward(x) * (np.nan if held_out and self.n_steps < self.most else 1.0)


def last(most):
    kind = type("Last", (Last,), {"most": most})
    decoder = kind(3, X.shape[1])
    return CustomNetwork(nn.Linear(X.shape[1], 3), decoder)


def test_objective_of_rows_held_out_that_is_not_finite_is_no_sign_of_convergence():
    settings = {"early_stopping": True, "n_iter_no_change": 2, "max_iter": 40, "tol": 0.1}
    estimator = AutoencoderTransformer(3, network=last(16), random_state=0, **settings).fit(X)
    objective = np.array(estimator.history_["valid_objective"])
    assert np.isnan(objective[:15]).all()  # one step an epoch
    assert np.isfinite(objective[15:]).all()
    assert estimator.n_iter_ > 16
    estimator.set_params(network=last(10**6))
    with pytest.raises(NonFiniteLossError, match=r"held out was not finite \(it is nan\)") as error:
        estimator.fit(X)
    assert "in eval mode alone" in str(error.value)
    assert "learning rate" not in str(error.value)
    assert estimator.n_iter_ == 40


class Smallest(nn.Module):
    """Keeps the smallest value of each unit, and spoils it in a step of the training."""

    def __init__(self, n_units, spoiled_at):
        super().__init__()
        self.register_buffer("smallest", torch.full((n_units,), torch.inf))
        self.n_steps, self.spoiled_at = 0, spoiled_at

    def forward(self, x):
        if self.training:
            self.n_steps += 1
            spoiled = torch.nan if self.n_steps == self.spoiled_at else torch.inf
            found = x.detach().amin(dim=0).clamp_max(spoiled)
            self.smallest.copy_(torch.minimum(self.smallest, found))
        return x


def with_smallest(spoiled_at):
    encoder = nn.Sequential(nn.Linear(X.shape[1], 3), Smallest(3, spoiled_at))
    return CustomNetwork(encoder, nn.Linear(3, X.shape[1]))


def test_buffers_may_be_infinite_from_the_start_and_one_that_goes_bad_is_named():
    estimator = AutoencoderTransformer(3, network=with_smallest(0), max_iter=5, random_state=0)
    assert estimator.fit(X).module_.encoder[1].smallest.isfinite().all()
    estimator.set_params(network=with_smallest(3))
    with pytest.raises(NonFiniteLossError, match=r"buffer 'encoder\.1\.smallest' was no") as error:
        estimator.fit(X)
    assert "what Smallest puts there" in str(error.value)
    assert "learning rate" not in str(error.value)


class Tidy(Callback):
    """Counts beginnings and ends."""

    def __init__(self, fails=False):
        self.fails = fails
        self.told_ = []

    def on_train_begin(self, net, **kwargs):
        self.told_.append("begin")

    def on_train_end(self, net, **kwargs):
        self.told_.append("end")
        if self.fails:
            raise RuntimeError("no file to load")


class Broken(Callback):
    """Stands for anything that goes wrong within a training."""

    def on_epoch_end(self, net, **kwargs):
        raise RuntimeError("stopped by a callback")


def test_callbacks_hear_of_the_end_of_a_training_that_failed():
    tidy = [Tidy(), Tidy(fails=True), Tidy()]
    estimator = AutoencoderTransformer(**EXPLOSIVE, callbacks=tidy, learning_rate="cosine")
    with pytest.raises(NonFiniteLossError) as error:
        estimator.fit(X)
    assert [one.told_ for one in tidy] == [["begin", "end"]] * 3
    assert any("no file to load" in note for note in error.value.__notes__)
    # The next training starts at the rate of the first step, not where the schedule was.
    for group in estimator.net_.optimizer_.param_groups:
        assert group["lr"] == group["initial_lr"]
    failing = [Broken(), Tidy()]
    with pytest.raises(RuntimeError, match="stopped by a callback"):
        AutoencoderTransformer(**QUICK, callbacks=failing).fit(X)
    assert failing[1].told_ == ["begin", "end"]


class Later(Tidy):
    """Comes behind those of another class, for those of one stand together."""


class NeverBegins(Tidy):
    def on_train_begin(self, net, **kwargs):
        super().on_train_begin(net, **kwargs)
        raise RuntimeError("no file to open")


def test_callbacks_that_had_begun_hear_of_the_end_where_another_cannot_begin():
    first, failing, last = callbacks = [Tidy(), NeverBegins(), Later()]
    with pytest.raises(RuntimeError, match="no file to open"):
        AutoencoderTransformer(**QUICK, callbacks=callbacks).fit(X)
    assert (first.told_, failing.told_, last.told_) == (["begin", "end"], ["begin"], [])


@pytest.mark.parametrize("patience", [1, 20])
def test_training_that_a_callback_ends_keeps_the_best_weights(patience):
    rows = np.random.default_rng(1).normal(size=(40, 20))
    settings = {"learning_rate": "constant", "learning_rate_init": 0.01, "alpha": 0.0}
    settings |= {"early_stopping": True, "validation_fraction": 0.3, "n_iter_no_change": 1000}
    estimator = AutoencoderTransformer(8, random_state=0, max_iter=300, **settings)
    stop = EarlyStopping(monitor="valid_objective", patience=patience, sink=lambda *a: None)
    estimator.set_params(callbacks=[stop]).fit(rows)
    objective = estimator.history_["valid_objective"]
    best = int(np.argmin(objective)) + 1
    assert best < len(objective) < 300
    shorter = AutoencoderTransformer(8, random_state=0, max_iter=best, **settings).fit(rows)
    np.testing.assert_array_equal(estimator.transform(rows), shorter.transform(rows))


class StopAtBest(Callback):
    """Ends the training with an epoch that is better than those before."""

    def on_epoch_end(self, net, **kwargs):
        objective = net.history[:, "valid_objective"]
        if len(objective) > 1 and objective[-1] < min(objective[:-1]):
            raise KeyboardInterrupt


def test_last_epoch_of_a_training_that_a_callback_ends_can_be_the_best():
    settings = {**QUICK, "early_stopping": True, "learning_rate": "constant", "init": "random"}
    estimator = AutoencoderTransformer(**{**settings, "max_iter": 50}, callbacks=[StopAtBest()])
    best = estimator.fit(X).n_iter_
    assert 1 < best < 50
    shorter = AutoencoderTransformer(**{**settings, "max_iter": best}).fit(X)
    np.testing.assert_array_equal(estimator.transform(X), shorter.transform(X))


def test_losses_of_an_epoch_that_was_taken_back_are_not_the_lowest():
    settings = {"network": with_smallest(3), "max_iter": 5, "random_state": 0}
    estimator = AutoencoderTransformer(3, optimizer="sgd", **settings)
    with pytest.raises(NonFiniteLossError, match="in epoch 3"):
        estimator.fit(X)
    first, second = (row["train_loss"] for row in estimator.net_.history)
    assert second < first  # and that of the third was lower still
    assert estimator.net_.lowest_losses == {"train_loss": second}


def test_loss_that_is_not_finite_is_not_the_lowest():
    net, found = SimpleNamespace(history=History(), lowest_losses={}), []
    for value in (np.nan, 3.0, np.nan, -np.inf, 2.0, np.inf):
        net.history.new_epoch()
        net.history.record("valid_loss", value)
        AutoencoderNet._record_best(net, "valid_loss")
        found.append(net.history[-1, "valid_loss_best"])
    assert found == [False, True, False, False, True, False]
    assert net.lowest_losses == {"valid_loss": 2.0}
