"""What are handwritten digits made of?

A sparse autoencoder with a linear decoder is a dictionary: each row is a sum of a few atoms, and
the encoder says which ones, and how much of each, in one pass. Here every image may use 5 of 48
atoms on average. What do the atoms look like, is the target met on images that the fit did not see,
and how much of them can be said with 5 atoms? Beside it stand dictionary learning with the same
numbers, where each code is found by a search, and PCA with 5 components.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA, MiniBatchDictionaryLearning
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split

from skae import SparseAutoencoderTransformer

train, test = train_test_split(load_digits().data, test_size=0.3, random_state=0)


def explained(reconstruction):
    """Share of the variance of the held-out images, all pixels together."""
    return r2_score(test, reconstruction, multioutput="variance_weighted")


print("kind           active units, held-out   dead   variance explained, held-out")
for sparsity in ("l1", "l2", "topk"):
    sparse = SparseAutoencoderTransformer(
        n_components=48,
        sparsity=sparsity,
        n_active=5,
        hidden_layer_sizes=(),  # encoder and decoder are linear
        input_scaling=None,  # pixels share a unit
        learning_rate_init=5e-3,
        tol=1e-3,
        random_state=0,
    ).fit(train)
    n_active = (sparse.transform(test) > 0).sum(axis=1).mean()
    share = explained(sparse.reconstruct(test))
    print(f"{sparsity:<14} {n_active:22.2f} {sparse.n_dead_:6d} {share:30.3f}")

mean = train.mean(axis=0)
dictionary = MiniBatchDictionaryLearning(
    48, transform_algorithm="omp", transform_n_nonzero_coefs=5, max_iter=10, random_state=0
).fit(train - mean)
share = explained(dictionary.transform(test - mean) @ dictionary.components_ + mean)
print(f"{'dictionary':<14} {5:22.2f} {'':6} {share:30.3f}")
pca = PCA(n_components=5).fit(train)
share = explained(pca.inverse_transform(pca.transform(test)))
print(f"{'PCA':<14} {5:22.2f} {'':6} {share:30.3f}")

# The atoms: what one unit of each code adds to an image without any.
nothing = sparse.inverse_transform(np.zeros((1, 48)))
atoms = sparse.inverse_transform(np.eye(48)) - nothing
codes = sparse.transform(test)


def show(place, image, limit, colours="RdBu_r", title=None):
    place.imshow(image.reshape(8, 8), cmap=colours, vmin=-limit, vmax=limit)
    place.set(xticks=[], yticks=[])
    place.set_title(title, fontsize=9)


figure = plt.figure(figsize=(13, 5), layout="constrained")
left, right = figure.subfigures(1, 2, width_ratios=[1.15, 1])

# The ones that are used most come first.
order = np.argsort(-(sparse.transform(train) > 0).mean(axis=0))
left.suptitle("48 atoms, the most used first (blue: darker, red: lighter)")
for place, unit in zip(left.subplots(6, 8).flat, order, strict=True):
    show(place, atoms[unit], np.abs(atoms[unit]).max())

right.suptitle("Held-out images as the sum of a mean image and their atoms")
rows = right.subplots(4, 8)
for row, image in zip(rows, range(4), strict=True):
    used = np.argsort(-codes[image])[:5]
    show(row[0], test[image], 16, "gray", "image")
    show(row[1], sparse.reconstruct(test[[image]]), 16, "gray", "from 5 atoms")
    show(row[2], nothing, 16, "gray", "mean image")
    for place, unit in zip(row[3:], used, strict=True):
        part = codes[image, unit] * atoms[unit]
        show(place, part, 12, title=f"atom {np.flatnonzero(order == unit)[0] + 1}")

output = Path(__file__).parent / "output"
output.mkdir(exist_ok=True)
figure.savefig(output / "sparse_codes.png", dpi=150)
