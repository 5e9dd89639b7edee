"""
Tutorial: from a table to a result
==================================

One table, from the first look to a model that is kept: 569 tumours with
30 measurements each, as scikit-learn has them. Which rows go together, how
many numbers say what the 30 say, which rows are odd, and are the codes of
any use to a classifier? Everything stands beside what PCA gives.
"""

# %%
# The table
# ---------
#
# A DataFrame goes in as it is; its names come back where they are of use. A
# part of the rows is laid aside before anything is looked at.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    cross_val_score,
    train_test_split,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderOutlierDetector, VAETransformer
from skae.plotting import LatentMapDisplay

X, y = load_breast_cancer(return_X_y=True, as_frame=True)
train, test, y_train, y_test = train_test_split(
    X, y, test_size=0.3, random_state=0
)
train.iloc[:3, :5]

# %%
# How many components?
# --------------------
#
# The score of the VAE bounds the log-likelihood of rows that it has not
# seen, in nats, so no labels are needed. PCA and FactorAnalysis have such
# a score, too. Columns are scaled inside skae; for the other two a scaler
# stands in front, and so that all densities are in one unit, it does for
# skae here. Folds are shuffled: tables are often sorted.

scaler = StandardScaler().fit(train)
scaled = scaler.set_output(transform="pandas").transform(train)
grid = {"n_components": [1, 2, 4, 8, 16]}
folds = KFold(3, shuffle=True, random_state=0)
models = {
    "skae": VAETransformer(random_state=0),
    "FactorAnalysis": FactorAnalysis(random_state=0),
    "PCA": PCA(svd_solver="full"),
}
searches = {
    name: GridSearchCV(model, grid, cv=folds).fit(scaled)
    for name, model in models.items()
}
pd.DataFrame(
    {
        name: search.cv_results_["mean_test_score"].round(1)
        for name, search in searches.items()
    },
    index=grid["n_components"],
)

# %%
# Is the fit good?
# ----------------
#
# ``best_estimator_`` is fitted on all training rows. Three things to look
# at: rows of the test set must score about as the folds did, ``kl_`` says
# how many nats each component carries (nothing means: not used), and the
# loss must have come down and stayed.

vae = searches["skae"].best_estimator_
held_out = scaler.transform(test)
print(f"components: {vae.n_components_}, epochs: {vae.n_iter_}")
print(
    f"in the folds {searches['skae'].best_score_:.1f} nats a row,", end=" "
)
print(f"on the test rows {vae.score(held_out):.1f}")
print("nats of each component:", vae.kl_.round(1))

# %%
# A map
# -----
#
# Codes come ordered: the first two say most. Nobody told the model the
# classes; they are only the colours.

pca = PCA(2).fit(scaled)
kind = np.array(["malignant", "benign"])[y_test]
figure, axes = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
for axis, (name, model) in zip(
    axes, {"skae": vae, "PCA": pca}.items(), strict=True
):
    LatentMapDisplay.from_estimator(model, held_out, kind, ax=axis)
    axis.set_title(name)
plt.show()

# %%
# Are the codes of use?
# ---------------------
#
# In a pipeline, as any transformer. Few labels is where features that were
# learned without labels count: 40 of the training rows have one here.

few = np.random.RandomState(0).permutation(len(train))[:40]
classifier = make_pipeline(
    StandardScaler(), LogisticRegression(max_iter=1000)
)
pca = PCA(vae.n_components_).fit(scaled)
rows = {
    "codes of skae": vae.transform(scaled),
    "codes of PCA": pca.transform(scaled),
    "all 30 columns": scaled.to_numpy(),
}
for name, features in rows.items():
    scores = cross_val_score(classifier, features[few], y_train.iloc[few])
    print(f"{name:<15} accuracy {scores.mean():.3f}")

# %%
# Which rows are odd?
# -------------------
#
# The detector learns from benign tumours alone; malignant ones should come
# out as odd. It says by which columns.

benign = train[y_train == 1]
detector = AutoencoderOutlierDetector(random_state=0).fit(benign)
flagged = detector.predict(test) == -1
print(
    f"flagged: {flagged[y_test == 0].mean():.0%} of the malignant,", end=" "
)
print(f"{flagged[y_test == 1].mean():.0%} of the benign ones")
oddest = test.iloc[[np.argmin(detector.score_samples(test))]]
detector.explain(oddest, n_reasons=4).round(2)

# %%
# Keep it
# -------
#
# ``joblib.dump(vae, "vae.joblib")`` stores the model, as any estimator of
# scikit-learn; the page on storing says what else there is.
