"""A quick tour: the three jobs that skae is made for, on real data, each beside a baseline.

(a) Are the codes of an autoencoder good features for a classifier of text?
(b) How many latent dimensions do images of digits need, when there are no labels?
(c) Which rows are unusual?

Run it with ``make demo``. Nothing is downloaded: the texts are docstrings of installed packages,
the images come with scikit-learn. It prints one table and writes output/quickstart.png.
"""

import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from docstrings import load_docstrings
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA, FactorAnalysis, TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.manifold import TSNE
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import (
    GridSearchCV,
    StratifiedGroupKFold,
    cross_validate,
    train_test_split,
)
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import DenoisingAETransformer, VAETransformer
from skae.likelihoods import Gaussian

started = time.perf_counter()
table = []  # (job, skae, baseline, name of the baseline, what the figure is)

# Settings for a tour: a fit ends as soon as an epoch brings less than a hundredth.
quick = {"learning_rate_init": 3e-3, "tol": 1e-2, "n_iter_no_change": 5, "random_state": 0}


def say(text):
    print(f"[{time.perf_counter() - started:4.0f} s] {text}", flush=True)


# (a) Are the codes good features for a classifier of text? ---------------------------------------
#
# Given the docstring of a function, tell its package. Rows of TF-IDF are sparse and stay sparse.
# All their columns have one unit, so they are not scaled. The encoder learns to fill in words that
# are masked. Documents of one source file are held out together, because they resemble each other.

say("(a) reading the docstrings of five packages")
docstrings = load_docstrings()
texts, packages = np.array(docstrings.data, dtype=object), docstrings.target
folds = StratifiedGroupKFold(n_splits=3, shuffle=True, random_state=0)

reducers = {
    "skae": DenoisingAETransformer(
        n_components=32, noise_level=0.3, input_scaling=None, early_stopping=True, **quick
    ),
    "TruncatedSVD": TruncatedSVD(n_components=32, random_state=0),
}
results = {}
for name, reducer in reducers.items():
    words = TfidfVectorizer(max_features=2000, stop_words="english", sublinear_tf=True)
    pipe = make_pipeline(words, reducer, StandardScaler(), LogisticRegression(max_iter=1000))
    results[name] = cross_validate(
        pipe,
        texts,
        packages,
        groups=docstrings.filenames,
        cv=folds,
        return_estimator=True,
        return_indices=True,
    )
    accuracy = results[name]["test_score"]
    say(f"    {name}: accuracy {accuracy.mean():.3f} on held-out documents")

accuracies = [result["test_score"].mean() for result in results.values()]
table.append(("features", *accuracies, "TruncatedSVD", "accuracy, 32 numbers a document"))

# (b) How many latent dimensions, when there are no labels? ---------------------------------------
#
# The score of the VAE bounds the log-likelihood of new rows, so a grid search needs no y. Pixels
# are whole numbers, 0 to 16: uniform noise spreads each over its unit, or the density of a pixel
# that is always 0 would have no limit.

say("(b) searching the number of components of images of digits")
digits, labels = load_digits(return_X_y=True)
digits = digits + np.random.default_rng(0).uniform(size=digits.shape)

grid = {"n_components": [2, 4, 8, 16, 32]}
models = {
    "skae": VAETransformer(**quick),
    "PCA": PCA(svd_solver="full"),
    "FactorAnalysis": FactorAnalysis(),
}
searches = {name: GridSearchCV(model, grid, cv=3).fit(digits) for name, model in models.items()}
for name, search in searches.items():
    n_components = search.best_params_["n_components"]
    say(f"    {name}: best with {n_components} components, {search.best_score_:.1f} nats a row")

for name in ("PCA", "FactorAnalysis"):
    scores = (searches["skae"].best_score_, searches[name].best_score_)
    table.append(("size", *scores, name, "log-likelihood of a held-out row, nats"))

# (c) Which rows are unusual? ---------------------------------------------------------------------
#
# Learn one digit, then score its held-out images and those of the nine other digits. Pixels share
# a unit: no scaling, and one noise variance for all.

say("(c) telling each digit from the nine others")
vae = VAETransformer(likelihood=Gaussian(variance="shared"), input_scaling=None, **quick)
detectors = ["skae", "5 neighbours", "PCA"]
auroc = {name: [] for name in detectors}
for digit in range(10):
    train, normal = train_test_split(digits[labels == digit], test_size=0.4, random_state=0)
    rows = np.concatenate([normal, digits[labels != digit]])
    is_normal = np.arange(len(rows)) < len(normal)

    scale = StandardScaler().fit(train)
    neighbours = NearestNeighbors(n_neighbors=5).fit(scale.transform(train))
    distance, _ = neighbours.kneighbors(scale.transform(rows))
    scores = {
        "skae": vae.fit(train).score_samples(rows),
        "5 neighbours": -distance.mean(axis=1),
        "PCA": PCA(n_components=16).fit(train).score_samples(rows),
    }
    for name in detectors:
        auroc[name].append(roc_auc_score(is_normal, scores[name]))
    if digit == 8:
        shown = scores["skae"], is_normal

auroc = {name: np.mean(values) for name, values in auroc.items()}
for name in detectors:
    say(f"    {name}: AUROC {auroc[name]:.3f}, mean of ten digits")
for name in detectors[1:]:
    table.append(("anomalies", auroc["skae"], auroc[name], name, "AUROC, mean of ten digits"))

# What is seen? -----------------------------------------------------------------------------------

blue, orange, grey = "#0072B2", "#E69F00", "#666666"
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "font.size": 10})
tight = {"markerscale": 1.8, "handletextpad": 0.0, "columnspacing": 0.8}
figure, (left, middle, right) = plt.subplots(1, 3, figsize=(15, 4.6), layout="constrained")
figure.get_layout_engine().set(wspace=0.06)

# A map of the codes of held-out documents. It has not seen the labels: they are only the colours.
result = results["skae"]
test = result["indices"]["test"][0]
codes = result["estimator"][0][:-1].transform(texts[test])
place = TSNE(metric="cosine", init="random", random_state=0).fit_transform(codes)
colours = [blue, orange, "#009E73", "#CC79A7", "#333333"]
for label, (package, colour) in enumerate(zip(docstrings.target_names, colours, strict=True)):
    these = packages[test] == label
    left.scatter(*place[these].T, s=16, color=colour, alpha=0.8, linewidth=0, label=package)
left.legend(ncols=5, frameon=False, loc="upper center", bbox_to_anchor=(0.5, 0), **tight)
left.set_axis_off()
left.set_title("(a) Codes of docstrings never seen before")

styles = {"skae": (blue, "o-"), "PCA": (orange, "s--"), "FactorAnalysis": (grey, "^:")}
for name, search in searches.items():
    colour, line = styles[name]
    score = search.cv_results_["mean_test_score"]
    error = search.cv_results_["std_test_score"] / np.sqrt(search.n_splits_ - 1)
    middle.errorbar(grid["n_components"], score, error, fmt=line, color=colour, label=name)
middle.set_xscale("log", base=2)
middle.set_xticks(grid["n_components"], grid["n_components"])
middle.set(xlabel="n_components", ylabel="log-likelihood of a held-out row (nats)")
middle.legend(frameon=False, title="± standard error of 3 folds")
middle.set_title("(b) How many dimensions do digits need?")

score, is_normal = shown
bins = np.linspace(np.quantile(score, 0.01), score.max(), 30)
for these, colour, name in [
    (is_normal, blue, "new images of an 8"),
    (~is_normal, orange, "others"),
]:
    share = np.full(these.sum(), 1 / these.sum())
    right.hist(score[these], bins, weights=share, color=colour, alpha=0.75, label=name)
right.set(xlabel="score_samples (nats)", ylabel="share of the images")
right.yaxis.set_major_formatter("{x:.0%}")
right.legend(frameon=False, loc="upper left")
right.set_title("(c) Unusual images for a model of the digit 8")

output = Path(__file__).parent / "output"
output.mkdir(exist_ok=True)
figure.savefig(output / "quickstart.png", dpi=150)
say("written: output/quickstart.png")

print(f"\n{'job':<11}{'skae':>8}{'baseline':>10}  {'which':<16}{'skae is':<12}what the figure is")
for job, ours, theirs, name, meaning in table:
    decimals = 1 if job == "size" else 3
    verdict = "better" if ours > theirs else "not better"
    print(f"{job:<11}{ours:8.{decimals}f}{theirs:10.{decimals}f}  {name:<16}{verdict:<12}{meaning}")
