"""
How many latent dimensions do the data have?
============================================

Two answers, on data whose dimension is known. A robot arm moves in a
plane. It has three joints, so that three angles say where it is; three
sensors on each of its segments tell their position, with some noise. That
makes 18 columns of three dimensions, which are not linear: the positions
are sines and cosines.

The first answer is a grid search over ``n_components``. It needs no
labels, because the score of ``VAETransformer`` bounds the log-likelihood of
rows that the fit did not see. The second answer is a single fit with more
components than needed: ``kl_`` tells which of them are used.
"""

import matplotlib.pyplot as plt
import numpy as np
import pictures
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV

from skae import VAETransformer
from skae.plotting import LatentUseDisplay, SizeDisplay

rng = np.random.default_rng(0)
angles = rng.normal(0, 0.4, size=(2000, 3)).cumsum(axis=1)
segments = np.stack(
    [np.cos(angles), np.sin(angles)], axis=-1
)  # (row, segment, x or y)
joints = segments.cumsum(axis=1) - segments
along = np.array([1, 2, 3])[:, None] / 3
sensors = joints[:, :, None, :] + along * segments[:, :, None, :]
X = sensors.reshape(2000, 18) + 0.1 * rng.normal(size=(2000, 18))

# Early stopping ends each fit when held-out rows are no longer better
# explained. The KL term has its full weight from the beginning: a latent
# that does not pay for itself is then never taken up.
vae = VAETransformer(
    early_stopping=True,
    kl_warmup=0.0,
    learning_rate_init=3e-3,
    tol=3e-3,
    n_iter_no_change=5,
    random_state=0,
)

# The first answer: a grid search, with PCA beside it.
sizes = [1, 2, 3, 4, 6, 8]
grid = {"n_components": sizes}
searches = {
    "VAE": GridSearchCV(vae, grid, cv=3).fit(X),
    "PCA": GridSearchCV(PCA(), grid, cv=3),
}
searches["PCA"].fit(X)
for name, search in searches.items():
    best = search.best_params_["n_components"]
    print(
        f"{name}: best with {best} components,",
        f"{search.best_score_:.2f} nats a held-out row",
    )

# The second answer: one fit with many components.
large = vae.set_params(n_components=12).fit(X)
kl = np.sort(large.kl_)[::-1]
print(
    f"one fit with 12 components: {large.n_iter_} epochs, KL of each:",
    kl.round(2),
)

blue, grey = "#0072B2", "#666666"
plt.rcParams.update(
    {"axes.spines.top": False, "axes.spines.right": False, "font.size": 10}
)
figure, (arm, left, right) = plt.subplots(
    1, 3, figsize=(14, 4.2), layout="constrained"
)
figure.get_layout_engine().set(wspace=0.06)

for row in X[:6].reshape(6, 9, 2):
    arm.plot(*np.vstack([(0, 0), row]).T, color=blue, alpha=0.25)
    arm.plot(*row.T, "o", color=blue, markersize=4)
arm.plot(0, 0, "s", color=grey)
arm.set(aspect="equal", xlabel="x", ylabel="y")
arm.set_title("Six rows: nine sensors on an arm of three joints")

for name, search in searches.items():
    SizeDisplay.from_search(search, name=name, ax=left)
left.set_title("A grid search")

LatentUseDisplay.from_estimator(large, ax=right)
right.axvline(3.5, color=grey, linewidth=1, linestyle=":", zorder=0)
right.set_title("What each of 12 latents carries")

pictures.save(figure, "number_of_dimensions")

# The grid search over the VAE finds the three joints. PCA needs
# more components to follow the curves, and explains new rows less well with
# any number of them. In the single fit a few of the 12 latents carry nearly
# everything, and most are left empty. That is one fit instead of many, but
# less exact: a dimension can be shared by two latents, and no row is held
# out. What ``n_components="auto"`` makes of such fits stands in the
# example on the size.
