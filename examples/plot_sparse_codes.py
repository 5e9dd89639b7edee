"""
What are handwritten digits made of?
====================================

A sparse autoencoder with a linear decoder is a dictionary: each row is a
sum of a few atoms, and the encoder says which ones, and how much of each,
in one pass. Here every image may use 5 of 48 atoms on average. What do the
atoms look like, is the target met on images that the fit did not see, and
how much of those images can be said with 5 atoms? Beside it stand
dictionary learning with the same numbers, which searches for the atoms of
each image, and PCA with 5 components.
"""

import matplotlib.pyplot as plt
import numpy as np
import pictures
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA, MiniBatchDictionaryLearning
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split

from skae import SparseAutoencoderTransformer

train, test = train_test_split(
    load_digits().data, test_size=0.3, random_state=0
)


def report(kind, n_active, reconstruction):
    share = r2_score(test, reconstruction, multioutput="variance_weighted")
    print(f"{kind:<21}{n_active:12.2f}{share:20.3f}")


print(
    f"{'on held-out images':<21}{'active units':>12}"
    f"{'variance explained':>20}"
)
for sparsity in ("l1", "l2", "topk"):
    sparse = SparseAutoencoderTransformer(
        n_components=48,
        sparsity=sparsity,
        n_active=5,
        hidden_layer_sizes=(),  # encoder and decoder are linear
        input_scaling=None,  # pixels share a unit
        learning_rate_init=5e-3,
        tol=1e-2,
        random_state=0,
    ).fit(train)
    codes = sparse.transform(test)
    report(
        sparsity,
        (codes > 0).sum(axis=1).mean(),
        sparse.inverse_transform(codes),
    )

mean = train.mean(axis=0)
dictionary = MiniBatchDictionaryLearning(
    48,
    alpha=10,
    transform_algorithm="omp",
    transform_n_nonzero_coefs=5,
    random_state=0,
).fit(train - mean)
report(
    "dictionary learning",
    5,
    dictionary.transform(test - mean) @ dictionary.components_ + mean,
)
pca = PCA(n_components=5).fit(train)
report("PCA", 5, pca.inverse_transform(pca.transform(test)))

# The atoms of the last fit ("topk"): what one unit of each code adds to an
# image without any.
nothing = sparse.inverse_transform(np.zeros((1, 48)))
atoms = sparse.inverse_transform(np.eye(48)) - nothing
order = np.argsort(
    -(codes > 0).mean(axis=0)
)  # the ones that are used most come first


def show(place, image, limits, colours="gray", title=None):
    place.imshow(
        image.reshape(8, 8), cmap=colours, vmin=limits[0], vmax=limits[1]
    )
    place.set(xticks=[], yticks=[])
    place.set_title(title, fontsize=9)


figure = plt.figure(figsize=(13.5, 5.4), layout="constrained")
left, right = figure.subfigures(1, 2, width_ratios=[1.1, 1], wspace=0.04)
left.suptitle(
    "48 atoms, the most used first (red adds ink, blue takes it away)"
)
for place, unit in zip(left.subplots(6, 8).flat, order, strict=True):
    largest = np.abs(atoms[unit]).max()
    show(place, atoms[unit], (-largest, largest), "RdBu_r")

above, below = right.subfigures(2, 1, height_ratios=[3.4, 2])
above.suptitle("Held-out images: the same for all, plus five atoms")
titles = ["image", "5 atoms", "the same"]
for row, image in zip(above.subplots(3, 8), (0, 1, 3), strict=True):
    for place, drawn, title in zip(
        row,
        [test[image], sparse.inverse_transform(codes[[image]]), nothing],
        titles,
        strict=False,
    ):
        show(place, drawn, (0, 16), title=title)
    for place, unit in zip(
        row[3:], np.argsort(-codes[image])[:5], strict=True
    ):
        number = np.flatnonzero(order == unit)[0] + 1
        show(
            place,
            codes[image, unit] * atoms[unit],
            (-12, 12),
            "RdBu_r",
            f"atom {number}",
        )

below.suptitle("New images: sample()")
for place, image in zip(
    below.subplots(2, 8).flat,
    sparse.sample(16, random_state=0),
    strict=True,
):
    show(place, image, (0, 16))

pictures.save(figure, "sparse_codes")

# Every kind of sparsity meets the target on new images, "topk" exactly.
# With as many numbers, five chosen atoms say far more than the first five
# components of PCA. Dictionary learning says most: it searches for the best
# atoms of each image, where the autoencoder has one matrix and a rule.
