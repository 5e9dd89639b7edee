"""The context in which the fits of a search are trained side by side."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import joblib

from skae._training.side_by_side.backend import Together


@contextmanager
def together() -> Iterator[None]:
    """Train the fits of a search in one pass, where they can be, inside a ``with`` block.

    ``GridSearchCV``, ``RandomizedSearchCV``, searches by halving, ``cross_val_score`` and all else
    that fits with `joblib.Parallel` give what they give without it, errors among them: scores are
    equal within rounding. Models that differ in ``n_components``, ``beta``, ``kl_warmup``,
    ``alpha``, ``learning_rate``, ``learning_rate_init``, ``max_iter``, ``tol``, early stopping,
    ``noise``, ``random_state`` or rows take the same steps at the same time, for the price of few.

    Trained one by one, as ever, are: rows that stay sparse; `SparseAutoencoderTransformer`;
    networks, priors and likelihoods of your own; any ``optimizer`` but "adam"; ``l1_ratio``,
    ``callbacks``, ``verbose``, ``warm_start`` and ``partial_fit``; and networks so large that
    nothing is gained.

    All happens in this process, in one thread: ``n_jobs`` is not looked at. ``fit_time`` is the
    time of a whole pass, and some more.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import GridSearchCV
    >>> import skae
    >>> X, _ = load_iris(return_X_y=True)
    >>> vae = skae.VAETransformer(max_iter=20, random_state=0)
    >>> search = GridSearchCV(vae, {"n_components": [1, 2], "beta": [1.0, 4.0]})
    >>> with skae.together():
    ...     search.fit(X).best_params_["beta"]
    1.0
    """
    with joblib.parallel_config(backend=Together()):
        yield
