"""How many units of a row does `transform` keep, and what does not depend on that?"""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils._param_validation import InvalidParameterError

from skae import SparseAutoencoderTransformer, StackedAutoencoderTransformer
from skae.sparsity import SPARSITIES, Sparsity

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = (part[:300] for part in load_digits(return_X_y=True))
QUICK = {"n_components": 24, "n_active": 4, "max_iter": 5, "random_state": 0}


def fitted(sparsity="topk", **others):
    return SparseAutoencoderTransformer(sparsity=sparsity, **QUICK, **others).fit(X)


def inputs_of(model, rows=X):
    """Return the encoder's outputs for rows."""
    scaled = torch.from_numpy(model._model.scaling.apply(rows)).float()
    with torch.no_grad():
        return model.module_.encoder(scaled).numpy()


@pytest.fixture(scope="module", params=SPARSITIES)
def model(request):
    return fitted(request.param)


@pytest.mark.parametrize("n_kept", [1, 3, 10, 24, "all"])
def test_the_strongest_units_above_zero_are_kept_whatever_the_rule(model, n_kept):
    codes = model.set_params(transform_n_active=n_kept).transform(X)
    h, k = np.maximum(inputs_of(model), 0.0), 24 if n_kept == "all" else n_kept
    smallest = np.sort(h, axis=1)[:, [-k]]
    np.testing.assert_allclose(codes, np.where(h >= smallest, h, 0.0), atol=1e-5)
    assert (codes > 0).sum(axis=1).max() <= k


def test_none_is_the_rule_of_the_training_and_follows_set_params_without_a_fit(model):
    own = model.set_params(transform_n_active=None).transform(X)
    every = model.set_params(transform_n_active="all").transform(X)
    assert (every[own > 0] == own[own > 0]).all()
    np.testing.assert_array_equal(model.set_params(transform_n_active=None).transform(X), own)
    if model.sparsity in ("l1", "l2", "kl"):
        np.testing.assert_array_equal(every, own)
    else:
        assert (every > 0).sum() > 1.2 * (own > 0).sum()


def test_nothing_but_the_codes_depends_on_it():
    one, other = fitted(), fitted(transform_n_active="all")
    for name in ("n_active_", "n_dead_", "loss_curve_"):
        assert getattr(one, name) == getattr(other, name)
    for answer in (
        lambda fit: fit.reconstruct(X),
        lambda fit: fit.score_samples(X),
        lambda fit: fit.sample(9, random_state=0),
        lambda fit: fit.inverse_transform(np.eye(24)),
    ):
        np.testing.assert_array_equal(answer(one), answer(other))
    assert other.n_active_ <= 4 < (other.transform(X) > 0).sum(axis=1).mean()
    assert not np.allclose(other.inverse_transform(other.transform(X)), other.reconstruct(X))


def test_it_may_change_while_a_training_goes_on():
    model = SparseAutoencoderTransformer(sparsity="topk", **QUICK).partial_fit(X)
    model.set_params(transform_n_active="all").partial_fit(X)
    same = SparseAutoencoderTransformer(sparsity="topk", **QUICK).partial_fit(X).partial_fit(X)
    np.testing.assert_array_equal(model.reconstruct(X), same.reconstruct(X))


@pytest.mark.parametrize("form", [np.asarray, sp.csr_array], ids=["dense", "csr"])
def test_codes_are_csr_where_asked_and_rows_may_be_too(form):
    dense = fitted(transform_n_active=6).transform(X)
    settings = {"sparse_output": True, "transform_n_active": 6}
    model = SparseAutoencoderTransformer(sparsity="topk", **QUICK, **settings)
    codes = model.fit_transform(form(X))
    assert codes.format == "csr"
    assert codes.nnz == (codes.toarray() > 0).sum() <= 6 * len(X)
    if form is np.asarray:
        np.testing.assert_array_equal(codes.toarray(), dense)


def test_a_pipeline_and_a_search_take_it():
    encoder = SparseAutoencoderTransformer(sparsity="topk", **QUICK)
    pipe = make_pipeline(encoder, LogisticRegression(max_iter=50))
    grid = {"sparseautoencodertransformer__transform_n_active": [None, "all"]}
    search = GridSearchCV(pipe, grid, cv=2).fit(X, Y)
    assert len(search.cv_results_["mean_test_score"]) == 2
    assert clone(fitted(transform_n_active=3)).transform_n_active == 3


@pytest.mark.parametrize("given", [0, -1, 2.5, "every"])
def test_what_it_cannot_be_is_an_error_at_fit_and_after(given):
    settings = {**QUICK, "sparsity": "topk"}
    with pytest.raises(InvalidParameterError, match="transform_n_active"):
        SparseAutoencoderTransformer(**settings, transform_n_active=given).fit(X)
    with pytest.raises(InvalidParameterError, match="transform_n_active"):
        fitted().set_params(transform_n_active=given).transform(X)


def test_more_units_than_there_are_is_an_error_at_fit_and_after():
    message = r"transform_n_active must lie in \(0, n_components\]\. Got .*=25 with .*=24"
    with pytest.raises(ValueError, match=message):
        fitted(transform_n_active=25)
    with pytest.raises(ValueError, match=message):
        fitted().set_params(transform_n_active=25).transform(X)


def test_a_level_of_a_stack_hands_up_what_it_was_trained_with():
    level = SparseAutoencoderTransformer(sparsity="topk", transform_n_active="all")
    stack = StackedAutoencoderTransformer(estimator=level, layer_sizes=(8, 4))
    with pytest.raises(ValueError, match=r"transform_n_active='all' at place 0\. Leave it at None"):
        stack.fit(X)


class Shrinking(Sparsity):
    """A kind whose code is not the encoder's output where a unit is active."""

    penalised = False

    def activate(self, pre, n_active):
        return (pre - 0.1).relu()

    def strongest(self, pre, n_kept):
        return super().strongest(pre - 0.1, n_kept)


def test_a_kind_of_ones_own_says_what_its_strongest_units_are():
    model = fitted(Shrinking())
    every = model.set_params(transform_n_active="all").transform(X)
    np.testing.assert_array_equal(every, model.set_params(transform_n_active=None).transform(X))
