"""
What does each unit of a code stand for?
========================================

Docstrings of five packages as TF-IDF, a sparse matrix, and a sparse
autoencoder whose code has 40 units, of which 3 are active on each text.
``describe_units`` says how often a unit is active, which words it writes
and which texts switch it on most. Does a unit mean something, in texts that
the fit did not see? Here that is asked of the packages, which no fit knows:
a unit stands for the package that most training texts with it come from,
and what is measured is how many of the new texts with it do. Beside it
stand other settings, and NMF, the usual way from TF-IDF to topics.
"""

import numpy as np
import pictures
from docstrings import load_docstrings
from sklearn.decomposition import NMF
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import GroupShuffleSplit

from skae import SparseAutoencoderTransformer
from skae.plotting import UnitsDisplay

docstrings = load_docstrings()
split = GroupShuffleSplit(n_splits=1, test_size=0.3, random_state=0)
train, test = next(
    split.split(docstrings.data, groups=docstrings.filenames)
)
letters = r"\b[a-z][a-z]+\b"
tfidf = TfidfVectorizer(
    min_df=3,
    stop_words="english",
    token_pattern=letters,
    sublinear_tf=True,
)
texts = np.array(docstrings.data, dtype=object)
X, X_test = tfidf.fit_transform(texts[train]), tfidf.transform(texts[test])
packages = np.eye(5)[docstrings.target]

few = {"n_active": 3, "random_state": 0}
linear = {"hidden_layer_sizes": (), **few}
to_zero = {"l1_ratio": 1, "alpha": 0.2}  # few of the weights stay
models = {
    "topk, linear, few weights": SparseAutoencoderTransformer(
        40, sparsity="topk", **linear, **to_zero
    ),
    "  all weights": SparseAutoencoderTransformer(
        40, sparsity="topk", **linear
    ),
    "  with a hidden layer": SparseAutoencoderTransformer(
        40, sparsity="topk", **few, **to_zero
    ),
    "  l1 instead": SparseAutoencoderTransformer(
        40, sparsity="l1", **linear, **to_zero
    ),
    "all defaults": SparseAutoencoderTransformer(40, random_state=0),
    "NMF": NMF(40, init="nndsvda", max_iter=400, random_state=0),
}


def largest(codes, n_kept):
    """Codes with all but their largest numbers set to zero."""
    kept = np.partition(codes, -n_kept, axis=1)[:, [-n_kept]]
    return np.where(codes >= kept, codes, 0)


def report(name, codes, new):
    """Print how often the package of an active unit is that of the text."""
    seen = (codes > 0).T @ packages[train]
    right = packages[test][:, seen.argmax(axis=1)] * (new > 0)
    of_its_package = right.sum() / (new > 0).sum()
    n_active = (new > 0).sum(axis=1).mean()
    print(f"{name:<26}{n_active:14.1f}{of_its_package:22.1%}")


print(f"{X.shape[0]} texts to fit, {X_test.shape[0]} new ones")
print(f"{'':<26}  active a text  of the unit's package")
for name, model in models.items():
    codes, new = model.fit_transform(X), model.transform(X_test)
    report(name, codes, new)
report("  its 3 largest", largest(codes, 3), largest(new, 3))
print(f"(of all texts, one package has {packages[test].mean(0).max():.1%})")

# Read aloud: every second unit of the first model, the most active first,
# and the beginning of the text that switches it on most.
model = models["topk, linear, few weights"]
print(f"{model.weight_density_:.0%} of the weights of the first are left")
words = tfidf.get_feature_names_out()
units = model.describe_units(X, n_rows=1, feature_names=words)
units = units.sort_values("rate", ascending=False)
print()
for unit, row in units[units["rate"] > 0].iloc[::2].iterrows():
    signed = [
        word if weight > 0 else f"less {word}"
        for word, weight in zip(
            row["features"], row["weights"], strict=True
        )
    ]
    print(f"unit {unit:>2}, {row['rate']:5.1%}: {', '.join(signed)}")
    print(f"        {texts[train[row['rows'][0]]][:64]}")

display = UnitsDisplay.from_estimator(
    model, X, units=units.index[1:24:2], feature_names=words
)
pictures.save(display.figure_, "units")

# Most units can be told in a sentence: splines, integrals, missing values,
# matrix decompositions, plots. A few of those that are active on most texts
# are of what all docstrings say. Which settings make units readable? Few
# active ones, and weights that are kept from learning the rare words of a
# few texts by heart, most of which decay alone (the second line) lets them
# do. Then they stand for the packages about as well as the three largest
# topics of a text of NMF (alpha was chosen on these new texts, so that what
# is ahead by little is no better). With all defaults a quarter of the units
# is active on each text, and a single one says nothing.
