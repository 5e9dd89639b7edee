"""
Which size does ``n_components="auto"`` find, and when is there none?
=====================================================================

Two tables. The first is made: rows lie near a curved surface of four
dimensions in 30 columns. The second are handwritten digits, of which
nobody knows a size.

Each is fitted twice. An ordinary fit with 32 latents says by ``kl_`` how
many nats each carries. ``"auto"`` looks for the size with a network of its
own, in which a nat is dear at first and becomes cheaper, so that latents
come into use one by one; ``size_curve_`` keeps what it saw, and the model
that is fitted has as many latents as it came to.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
import pictures
from sklearn.datasets import load_digits

from skae import VAETransformer
from skae.exceptions import UnclearSizeWarning
from skae.plotting import LatentUseDisplay, SizeDisplay

rng = np.random.default_rng(0)
hidden = np.tanh(rng.normal(size=(1500, 4)) @ rng.normal(size=(4, 100)))
surface = hidden @ rng.normal(size=(100, 30)) / 10
surface += 0.1 * rng.normal(size=surface.shape)
images = load_digits().data
images = images + rng.uniform(size=images.shape)  # not only integers
tables = {"a surface of 4 dimensions": surface, "digits": images}

plt.rcParams.update(
    {"axes.spines.top": False, "axes.spines.right": False, "font.size": 10}
)
figure, rows = plt.subplots(2, 3, figsize=(14, 7.6), layout="constrained")
figure.get_layout_engine().set(wspace=0.06, hspace=0.08)

for (name, X), (left, middle, right) in zip(
    tables.items(), rows, strict=True
):
    ordinary = VAETransformer(32, random_state=0).fit(X)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UnclearSizeWarning)
        auto = VAETransformer("auto", random_state=0).fit(X)
    print(f"{name}: {auto.n_components_} latents")
    for warning in caught:
        print(f"  {warning.category.__name__}: {warning.message}")

    found = auto.size_curve_
    LatentUseDisplay.from_estimator(ordinary, ax=left)
    left.set_title(f"{name}: an ordinary fit")
    LatentUseDisplay(use=found["kl"][:32]).plot(middle)
    middle.axvline(
        auto.n_components_ + 0.5,
        color="#666666",
        linewidth=1,
        linestyle=":",
    )
    middle.set_title("size_curve_ of 'auto'")
    SizeDisplay.from_estimator(auto, ax=right)
    right.set_title("held-out score")

pictures.save(figure, "size")

# The ordinary fit spreads the curved surface over many latents: the KL of
# the later ones falls slowly, and no line between used and unused can be
# drawn. Under the price that falls, four carry nearly all: behind them is a
# drop. The two that carry a little bring nothing to rows held out, within
# the standard error, so four are taken.
#
# The digits have a slope: each latent is worth a little less than the one
# before. There "auto" also makes an ordinary fit of many latents. If that
# described rows held out better than the search, the latents that it uses
# would be counted; here it does not, and the search has the word. The
# warning says that its number is one of several; where to stop is a matter
# of what the codes are for.
