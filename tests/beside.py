"""What the tests of `skae.together` share: small searches, and the passes that are made."""

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV

from skae._training.side_by_side import loop

from .helpers import low_rank

X = low_rank(n_rows=110, n_features=7)
SHORT = {"hidden_layer_sizes": (9,), "max_iter": 6, "batch_size": 32, "random_state": 0}


@pytest.fixture
def passes(monkeypatch):
    """Return the sizes of codes in each pass that is made."""
    found, train = [], loop.train_side_by_side

    def noted(runs, recorded):
        found.append([run.n_components for run in runs])
        train(runs, recorded)

    monkeypatch.setattr(loop, "train_side_by_side", noted)
    return found


def search(estimator, grid, X=X, **settings):
    return GridSearchCV(estimator, grid, cv=2, refit=False, **settings).fit(X)


def scores_of(search):
    names = [name for name in search.cv_results_ if name.startswith("split")]
    return np.array([search.cv_results_[name] for name in sorted(names)])
