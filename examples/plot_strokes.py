"""
Does a unit stand for a stroke or for a digit?
==============================================

A unit of a linear sparse autoencoder adds one image to a reconstruction.
What that image shows is a matter of how many units may be active at once:
with 2 of 64, of 6 and of 16. How well are new images described, and how
much does it say of the digit that a unit is active: how many of the new
images with it show the digit that most training images with it show?
"""

import matplotlib.pyplot as plt
import numpy as np
import pictures
from sklearn.datasets import load_digits
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split

from skae import SparseAutoencoderTransformer
from skae.plotting import UnitsDisplay

images, digits = load_digits(return_X_y=True)
X, X_test, y, y_test = train_test_split(
    images, np.eye(10)[digits], test_size=0.3, random_state=0
)

figure, axes = plt.subplots(3, 1, figsize=(8, 9), layout="constrained")
print("active units   variance explained   of the unit's digit")
for n_active, place in zip((2, 6, 16), axes, strict=True):
    sparse = SparseAutoencoderTransformer(
        n_components=64,
        sparsity="topk",
        n_active=n_active,
        hidden_layer_sizes=(),  # encoder and decoder are linear
        input_scaling=None,  # pixels share a unit
        random_state=0,
    )
    active = sparse.fit_transform(X) > 0
    new = sparse.transform(X_test)
    explained = r2_score(
        X_test,
        sparse.inverse_transform(new),
        multioutput="variance_weighted",
    )
    digit = (active.T @ y).argmax(axis=1)
    right = (y_test[:, digit] * (new > 0)).sum() / (new > 0).sum()
    print(f"{n_active:12}{explained:21.2f}{right:22.0%}")
    UnitsDisplay.from_estimator(
        sparse, X, n_units=16, image_shape=(8, 8), ax=place
    )
    place.set_title(f"{n_active} of 64 active on an image")

pictures.save(figure, "strokes")

# With 2 units an image is a digit of some kind, and a second one that mends
# it; with 16 it is put together of parts, which many digits share, so that
# it is described far better and a single unit says next to nothing of the
# digit. In between there are strokes. What "a unit" is to mean is said by
# ``n_active``; the images are differences from what the decoder makes of an
# empty code, so that a unit can also take away.
