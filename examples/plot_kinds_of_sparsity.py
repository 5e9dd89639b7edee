"""
Which kind of sparsity?
=======================

Every kind aims at the same number of active units for a row, so that they
can be compared at it: how much of images that the fit did not see is left
unexplained? Penalties ("l1", "l2", "kl") make small what they keep; "topk",
"batch_topk" and "jumprelu" leave it as it is. The picture is drawn over
the active units of those very images, which can be more than were asked
for.
"""

import warnings

import matplotlib.pyplot as plt
import pictures
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split

from skae import SparseAutoencoderTransformer
from skae.sparsity import SPARSITIES

train, test = train_test_split(
    load_digits().data, test_size=0.3, random_state=0
)
targets = (2, 4, 8, 16)
# 60 epochs, to be quick; units that no image uses are printed below.
warnings.simplefilter("ignore", ConvergenceWarning)

fig, ax = plt.subplots(figsize=(6.5, 4.5), layout="constrained")
print(f"{'sparsity':<12}{'asked':>6}{'active':>8}{'left':>7}{'dead':>6}")
for kind, marker in zip(SPARSITIES, "osD^vP", strict=True):
    active, left = [], []
    for target in targets:
        sparse = SparseAutoencoderTransformer(
            n_components=64,
            sparsity=kind,
            n_active=target,
            input_scaling="common",  # pixels share a unit
            max_iter=60,
            tol=0.0,
            random_state=0,
        ).fit(train)
        codes = sparse.transform(test)
        explained = r2_score(
            test,
            sparse.inverse_transform(codes),
            multioutput="variance_weighted",
        )
        active.append((codes > 0).sum(axis=1).mean())
        left.append(1 - explained)
        print(
            f"{kind:<12}{target:6}{active[-1]:8.2f}{left[-1]:7.3f}"
            f"{sparse.n_dead_:6}"
        )
    ax.plot(active, left, marker=marker, label=kind)

ax.set(
    xscale="log",
    yscale="log",
    xlabel="active units a row, on held-out images",
    ylabel="share of their variance left unexplained",
)
ax.set_xticks(targets, [str(target) for target in targets])
ax.minorticks_off()
ax.set_yticks([0.1, 0.2, 0.4, 0.8], ["0.1", "0.2", "0.4", "0.8"])
ax.legend(frameon=False)
pictures.save(fig, "kinds_of_sparsity")

# The three kinds that leave activations as they are lie together, and below
# the penalties at every number; with few active units by much. "topk" alone
# has the same number on new images, the others up to an eighth off it.
