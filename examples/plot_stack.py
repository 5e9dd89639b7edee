"""
What do the levels of a stack see?
==================================

Three sparse levels on handwritten digits, each trained on the codes of the
one below, then all together: a stack whose code is sparse at every level.
How many units are active at each, how much of new images do they keep, and
how much does it say of the digit that a unit is active: how many of the new
images with it show the digit that most training images with it show?
"""

import matplotlib.pyplot as plt
import numpy as np
import pictures
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import MaxAbsScaler

from skae import SparseAutoencoderTransformer, StackedAutoencoderTransformer
from skae.plotting import UnitsDisplay

images, digits = load_digits(return_X_y=True)
X, X_test, y, y_test = train_test_split(
    images, digits, test_size=0.3, random_state=0
)

sizes = {96: 12, 64: 8, 32: 4}  # units, and how many are active
stack = StackedAutoencoderTransformer(
    levels=[
        SparseAutoencoderTransformer(
            n_units,
            sparsity="topk",
            n_active=n_active,
            hidden_layer_sizes=(),
        )
        for n_units, n_active in sizes.items()
    ],
    random_state=0,
).fit(X)

print("level   units   active   dead   digit told   of the unit's digit")
levels = zip(
    stack.transform_levels(X), stack.transform_levels(X_test), strict=True
)
for place, (codes, new) in enumerate(levels, start=1):
    scaler = MaxAbsScaler().fit(codes)
    told = LogisticRegression(max_iter=2000).fit(scaler.transform(codes), y)
    accuracy = told.score(scaler.transform(new), y_test)
    digit = ((codes > 0).T @ np.eye(10)[y]).argmax(axis=1)
    right = (np.eye(10)[y_test][:, digit] * (new > 0)).sum()
    print(
        f"{place:5}{codes.shape[1]:8}{(new > 0).sum(axis=1).mean():9.1f}"
        f"{(~(codes > 0).any(axis=0)).sum():7}{accuracy:13.1%}"
        f"{right / (new > 0).sum():22.0%}"
    )

figure, place = plt.subplots(figsize=(8.6, 5.4), layout="constrained")
UnitsDisplay.from_estimator(
    stack, X, n_units=32, image_shape=(8, 8), ax=place
)
place.set_title("The units at the top, and on which share of the images")
pictures.save(figure, "stack")

# Every level keeps the number of active units that it was asked for. The
# higher the level, the more a single unit says of the digit, and the less
# all of them together: 4 of 32 numbers tell a little less than 12 of 96.
