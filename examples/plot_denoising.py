"""
How much of the noise can be taken out of an image?
===================================================

Images of digits get Gaussian noise on each pixel. A denoising autoencoder
has seen clean images only, with noise of its own on the way in, and cleans
new ones. Beside it: the Wiener filter, which is the best that a linear
method can do when the covariance of the clean images is known, and PCA,
with whatever number of components does best on these very images.
"""

import matplotlib.pyplot as plt
import numpy as np
import pictures
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.metrics import mean_squared_error
from sklearn.model_selection import train_test_split

from skae import DenoisingAETransformer

train, test = train_test_split(
    load_digits().data, test_size=0.3, random_state=0
)
rng = np.random.default_rng(0)
levels = [
    2,
    4,
    6,
]  # standard deviation of the noise; pixels go from 0 to 16
cleaned = {}  # level: {method: images}


def error(images):
    return mean_squared_error(test, images)


def by_pca(noisy):
    models = [
        PCA(n_components).fit(train) for n_components in range(4, 33, 4)
    ]
    return min(
        (
            model.inverse_transform(model.transform(noisy))
            for model in models
        ),
        key=error,
    )


def by_wiener(noisy, level):
    covariance = np.cov(train.T)
    gain = np.linalg.solve(covariance + level**2 * np.eye(64), covariance)
    return train.mean(axis=0) + (noisy - train.mean(axis=0)) @ gain


def by_autoencoder(noisy, level):
    denoiser = DenoisingAETransformer(
        n_components=64,
        hidden_layer_sizes=(256,),
        noise="gaussian",
        noise_level=level,
        input_scaling=None,  # the level of the noise is then that of pixels
        learning_rate_init=2e-3,
        early_stopping=True,
        random_state=0,
    )
    return denoiser.fit(train).reconstruct(noisy)


print("mean squared error of held-out images")
for level in levels:
    noisy = test + level * rng.normal(size=test.shape)
    answers = {
        "PCA": by_pca(noisy),
        "Wiener filter": by_wiener(noisy, level),
        "skae": by_autoencoder(noisy, level),
    }
    # It is no secret that a pixel lies between 0 and 16: all three may use
    # it.
    clipped = {name: images.clip(0, 16) for name, images in answers.items()}
    cleaned[level] = {"noisy": noisy, **clipped}
    print(
        f"noise {level}:",
        {name: round(error(x), 2) for name, x in cleaned[level].items()},
    )

plt.rcParams.update(
    {"axes.spines.top": False, "axes.spines.right": False, "font.size": 10}
)
figure = plt.figure(figsize=(13, 4.6), layout="constrained")
left, right = figure.subfigures(1, 2, width_ratios=[1.7, 1], wspace=0.03)

shown = {"clean": test, **cleaned[4]}
left.suptitle("Held-out images, noise 4; mean squared error in brackets")
for row, (name, images) in zip(
    left.subplots(5, 10), shown.items(), strict=True
):
    for place, image in zip(row, images, strict=False):
        place.imshow(image.reshape(8, 8), cmap="gray", vmin=0, vmax=16)
        place.set(xticks=[], yticks=[])
    label = name if name == "clean" else f"{name}\n({error(images):.1f})"
    row[0].set_ylabel(
        label, rotation=0, ha="right", va="center", labelpad=8
    )

curves = right.subplots()
styles = {
    "PCA": ("#E69F00", "s--"),
    "Wiener filter": ("#666666", "^:"),
    "skae": ("#0072B2", "o-"),
}
for name, (colour, line) in styles.items():
    curves.plot(
        levels,
        [error(cleaned[x][name]) for x in levels],
        line,
        color=colour,
        label=name,
    )
curves.set(
    xlabel="standard deviation of the noise",
    ylabel="mean squared error, held-out images",
)
curves.set(xticks=levels, ylim=(0, None))
curves.legend(frameon=False, loc="upper left")
right.suptitle("The error that is left")

pictures.save(figure, "denoising")

# The denoising autoencoder leaves the least error at each level, and its
# lead over the linear filter grows with the noise: where little can be seen
# of an image, it helps to know what digits look like. PCA takes noise
# inside its subspace for signal and signal outside of it for noise.
