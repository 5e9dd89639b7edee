"""
Do new rows look like the data?
===============================

Black and white images of digits: binary columns that belong together.
``VAETransformer`` with a Bernoulli likelihood draws new ones. They should
be zeros and ones, with as many zeros as real images have, with pixels that
go together as they do in real images; and a classifier should not be able
to tell them from images that the fit did not see. Beside it stand two
simple ways to draw: each pixel by itself, and a Gaussian with the
covariance of the images, cut in two at one half.
"""

import matplotlib.pyplot as plt
import numpy as np
import pictures
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import cross_val_score, train_test_split

from skae import VAETransformer

images = (load_digits().data >= 8).astype(int)
train, test = train_test_split(images, test_size=0.5, random_state=0)
rng = np.random.default_rng(0)

vae = VAETransformer(
    n_components=16,
    hidden_layer_sizes=(256, 128),
    likelihood="bernoulli",
    kl_warmup=0.0,
    learning_rate_init=2e-3,
    tol=3e-3,
    random_state=0,
).fit(train)

n = len(test)
gaussian = rng.multivariate_normal(
    train.mean(axis=0), np.cov(train.T), size=n
)
rows_of = {
    "real": train,
    "skae": vae.sample(n, random_state=0),
    "Gaussian, cut": (gaussian >= 0.5).astype(int),
    "pixel by pixel": (
        rng.uniform(size=(n, 64)) < train.mean(axis=0)
    ).astype(int),
}


def told_apart(rows):
    """AUROC of a classifier that tells rows from held-out images."""
    forest = RandomForestClassifier(min_samples_leaf=3, random_state=0)
    is_real = np.repeat([1, 0], [n, len(rows)])
    both = np.concatenate([test, rows])
    return cross_val_score(
        forest, both, is_real, cv=5, scoring="roc_auc"
    ).mean()


print(
    f"values that skae draws: {np.unique(rows_of['skae'])},",
    rows_of["skae"].dtype,
)
print(
    f"{'':<15}{'share of zeros':>16}"
    f"{'told from held-out images (AUROC)':>36}"
)
apart = {name: told_apart(rows) for name, rows in rows_of.items()}
for name, rows in rows_of.items():
    print(f"{name:<15}{1 - rows.mean():16.3f}{apart[name]:36.2f}")

rate = train.mean(axis=0).clip(1e-3, 1 - 1e-3)
by_pixel = (test @ np.log(rate) + (1 - test) @ np.log(1 - rate)).mean()
print(
    "log-likelihood of a held-out image:",
    f"skae at least {vae.score(test):.1f} nats,",
    end=" ",
)
print(f"pixel by pixel {by_pixel:.1f}")

plt.rcParams.update(
    {"axes.spines.top": False, "axes.spines.right": False, "font.size": 10}
)
figure = plt.figure(figsize=(13, 4.4), layout="constrained")
left, right = figure.subfigures(1, 2, width_ratios=[1.75, 1], wspace=0.04)

left.suptitle(
    "Ten images each; how well they are told from real ones in brackets "
    "(0.5: not at all)"
)
for row, (name, rows) in zip(
    left.subplots(4, 10), rows_of.items(), strict=True
):
    for place, image in zip(row, rows, strict=False):
        place.imshow(image.reshape(8, 8), cmap="gray")
        place.set(xticks=[], yticks=[])
    label = f"{name}\n({apart[name]:.2f})"
    row[0].set_ylabel(
        label, rotation=0, ha="right", va="center", labelpad=8
    )

right.suptitle("Every pair of pixels")
plot = right.subplots()
pairs = np.triu_indices(64, k=1)
real = np.cov(test.T)[pairs]
for name, colour in {
    "pixel by pixel": "#E69F00",
    "skae": "#0072B2",
}.items():
    drawn = np.cov(rows_of[name].T)[pairs]
    plot.plot(
        real,
        drawn,
        ".",
        color=colour,
        alpha=0.6,
        markeredgewidth=0,
        label=name,
    )
ends = [real.min(), real.max()]
plot.plot(ends, ends, color="#666666", linewidth=1)
plot.set(
    xlabel="covariance in held-out images",
    ylabel="covariance in drawn images",
)
plot.legend(frameon=False, markerscale=2)

pictures.save(figure, "generation")

# The VAE draws zeros and ones, as many zeros as there should be, and its
# pixels go together as real ones do: the points lie about the line. A
# classifier still tells its images from real ones more often than not, but
# less often than those of the simple ways. Each of the three has the share
# of zeros nearly right, so that this alone says little.
