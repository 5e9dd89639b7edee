"""Which components are used? What each carries, the largest first."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from sklearn.utils.sparsefuncs import mean_variance_axis

from skae.plotting.display import COLOURS, Display, check_axes, vector, whole_numbers
from skae.plotting.steps import codes_of, parts_of

_MEASURES = {
    "kl": "KL from the prior (nats)",
    "variance": "variance of the code",
    "activation": "mean activation",
}


class LatentUseDisplay(Display):
    """What each component carries, the largest first: a drop means a size, a slope means none.

    Parameters
    ----------
    use : array-like of shape (n_components,)
        What each component carries, in any order.
    use_name : str, default="KL from the prior (nats)"
        Label of the y axis.

    Attributes
    ----------
    order_ : ndarray of shape (n_components,)
        The component of each bar, by its place in ``use``.
    bars_ : matplotlib.container.BarContainer
        The bars.
    ax_, figure_ : matplotlib.axes.Axes, matplotlib.figure.Figure
        Where they were drawn.

    See Also
    --------
    LatentUseDisplay.from_estimator : Of a fitted estimator.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from skae import VAETransformer
    >>> from skae.plotting import LatentUseDisplay
    >>> X, _ = load_wine(return_X_y=True)
    >>> vae = VAETransformer(4, max_iter=20, tol=0.1, random_state=0).fit(X)
    >>> LatentUseDisplay.from_estimator(vae).order_
    array([0, 1, 2, 3])
    """

    def __init__(self, *, use, use_name=_MEASURES["kl"]):
        self.use = use
        self.use_name = use_name

    @classmethod
    def from_estimator(cls, estimator, X=None, *, measure="auto", ax=None, bar_kw=None):
        """Draw the components of a fitted estimator.

        Parameters
        ----------
        estimator : estimator, Pipeline or search
            With `kl_`, as `VAETransformer` has; or with ``transform``, and X.
        X : {array-like, sparse matrix or array} of shape (n_samples, n_features), default=None
            Rows whose codes are looked at. Not needed, nor used, for "kl".
        measure : {"auto", "kl", "variance", "activation"}, default="auto"
            The mean KL of each component from the prior, in nats, as `kl_` has it; or the variance
            of its codes of X, or their mean size. "auto" is "kl" where `kl_` has an entry for each
            component, "activation" for codes of which none is negative, as sparse ones, and
            "variance" else.
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None is a new figure.
        bar_kw : dict, default=None
            Settings of the bars, for ``Axes.bar``.

        Returns
        -------
        display : LatentUseDisplay

        Raises
        ------
        NotFittedError
            The estimator is not fitted.
        ValueError
            It has no `kl_` of single components, and X or a method ``transform`` is missing.
        """
        check_axes(ax, cls)
        if measure not in ("auto", *_MEASURES):
            raise ValueError(f"measure must be one of {['auto', *_MEASURES]}. Got {measure!r}.")
        use, measure = _use(estimator, X, measure, cls)
        return cls(use=use, use_name=_MEASURES[measure]).plot(ax, bar_kw=bar_kw)

    def plot(self, ax=None, *, bar_kw=None):
        """Draw the bars.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None is a new figure.
        bar_kw : dict, default=None
            Settings of the bars, for ``Axes.bar``.

        Returns
        -------
        self : LatentUseDisplay

        Raises
        ------
        ValueError
            ``use`` is no vector.
        """
        check_axes(ax, type(self))
        use = vector(self.use, "use")
        ax = self._begin(ax, (5.8, 3.8))
        self.order_ = np.argsort(-use, kind="stable")
        settings = {"color": COLOURS[0], **(bar_kw or {})}
        self.bars_ = ax.bar(np.arange(1, len(use) + 1), use[self.order_], **settings)
        ax.set(xlabel="component, sorted", ylabel=self.use_name, xlim=(0.4, len(use) + 0.6))
        whole_numbers(ax.xaxis)
        return self


def _use(estimator, X, measure: str, owner: type) -> tuple[np.ndarray, str]:
    """Return what each component carries, and by which measure."""
    _, last = parts_of(estimator)
    kl, n_components = getattr(last, "kl_", None), getattr(last, "n_components_", None)
    single = kl is not None and (n_components is None or len(kl) == n_components)
    if single and measure in ("auto", "kl"):
        return np.asarray(kl, dtype=float), "kl"
    if measure == "kl" or X is None:
        lacks = "kl_" if kl is None else f"kl_ of single components, of which it has {n_components}"
        raise ValueError(
            f"{type(last).__name__} has no {lacks}. Give rows X whose codes are to be looked at, "
            "and measure='auto', 'variance' or 'activation'."
        )
    codes, _ = codes_of(estimator, X, owner)
    if measure == "auto":
        smallest = codes.min() if codes.shape[0] else 0.0
        measure = "activation" if smallest >= 0 else "variance"
    return _activity(codes, measure), measure


def _activity(codes, measure: str) -> np.ndarray:
    if measure == "activation":
        return np.asarray(abs(codes).mean(axis=0)).ravel()
    if sp.issparse(codes):
        return mean_variance_axis(sp.csr_matrix(codes, dtype=float), axis=0)[1]
    return codes.var(axis=0, dtype=float)
