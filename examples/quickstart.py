"""A quick tour: four things that skae does, each beside the simplest way.

(a) Features of texts: do they tell more than those of TruncatedSVD?
(b) How many dimensions do images have? A search without labels.
(c) Which rows of a wide sparse table are odd, and why?
(d) Do new sparse rows look like the data?

Run it with ``make demo``. Nothing is downloaded: the texts are
docstrings of installed packages, the images come with scikit-learn, the
other two tables are made up. It prints one table and draws one figure,
to output/quickstart.png beside this file or to the path that it is given.
"""

import sys
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import tables
from docstrings import load_docstrings
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA, FactorAnalysis, TruncatedSVD
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    StratifiedGroupKFold,
    cross_val_predict,
    cross_val_score,
)
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import (
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
    VAETransformer,
)

here = Path(__file__).parent
default = here / "output" / "quickstart.png"
picture = Path(sys.argv[1]) if len(sys.argv) > 1 else default
started = time.perf_counter()
table = []  # (question, figure, skae, its seconds, others by name)


def say(text):
    print(f"[{time.perf_counter() - started:3.0f} s] {text}", flush=True)


def timed(function, *arguments):
    """Return what a function returns, and its seconds of processor time."""
    before = time.process_time()
    return function(*arguments), time.process_time() - before


# (a) Features of texts ---------------------------------------------------
#
# Given the docstring of a function, tell its package, from 32 numbers. Rows
# of TF-IDF stay sparse. Texts of one source file are held out together.

say("(a) features of the docstrings of five packages")
docstrings = load_docstrings()
texts, packages = np.array(docstrings.data, object), docstrings.target
folds = StratifiedGroupKFold(n_splits=3, shuffle=True, random_state=0)
reducers = {
    "skae": AutoencoderTransformer(n_components=32, random_state=0),
    "TruncatedSVD": TruncatedSVD(n_components=32, random_state=0),
}
logistic = LogisticRegression(max_iter=1000)
classifiers = {
    "logistic regression": make_pipeline(StandardScaler(), logistic),
    "10 nearest texts": KNeighborsClassifier(10, metric="cosine"),
}


def accuracy(reducer, classifier):
    words = TfidfVectorizer(
        max_features=2000, stop_words="english", sublinear_tf=True
    )
    pipe = make_pipeline(words, reducer, classifier)
    groups = docstrings.filenames
    return cross_val_score(pipe, texts, packages, groups=groups, cv=folds)


of_texts = {}
for name, classifier in classifiers.items():
    found = {
        who: timed(accuracy, reducer, classifier)
        for who, reducer in reducers.items()
    }
    of_texts[name] = {who: scores for who, (scores, _) in found.items()}
    means = {who: scores.mean() for who, (scores, _) in found.items()}
    seconds = {who: seconds for who, (_, seconds) in found.items()}
    table.append(("features", f"accuracy, {name}", means, seconds, 1))

# (b) How many dimensions? ------------------------------------------------
#
# The score of the VAE bounds the log-likelihood of new rows, so a search
# needs no labels. Pixels are whole numbers: uniform noise spreads each over
# its unit, or a pixel that is always 0 would have a density without limit.

say("(b) the number of dimensions of images of digits")
digits = load_digits().data
digits = digits + np.random.default_rng(0).uniform(size=digits.shape)
sizes = [4, 8, 16, 32]
models = {
    "skae": VAETransformer(random_state=0),
    "PCA": PCA(svd_solver="full"),
    "FactorAnalysis": FactorAnalysis(random_state=0),
}
searches, seconds = {}, {}
for who, model in models.items():
    halves = KFold(2, shuffle=True, random_state=0)
    search = GridSearchCV(model, {"n_components": sizes}, cv=halves)
    searches[who], seconds[who] = timed(search.fit, digits)
best = {
    who: search.best_params_["n_components"]
    for who, search in searches.items()
}
found = {who: search.best_score_ for who, search in searches.items()}
table.append(("size", "nats a held-out row", found, seconds, 1))
say(f"    best sizes: {best}")

# (c) Odd rows, and why ---------------------------------------------------
#
# Lines of a log, one-hot: in an odd one, two of twelve fields hold a value
# that is common, but not beside the others.

say("(c) odd lines of a log")
train, test, is_odd, names = tables.log_lines(1000, 1000)


def by_skae():
    detector = AutoencoderOutlierDetector(random_state=0).fit(train)
    return detector, -detector.score_samples(test)


def by_neighbours():
    distances, _ = (
        NearestNeighbors(n_neighbors=5).fit(train).kneighbors(test)
    )
    return distances.mean(axis=1)


(detector, oddness), ours = timed(by_skae)
distance, theirs = timed(by_neighbours)
seconds = {"skae": ours, "5 neighbours": theirs}
for measure, function, better in [
    ("area under the ROC curve", roc_auc_score, 1),
    ("average precision", average_precision_score, 1),
]:
    found = {
        "skae": function(is_odd, oddness),
        "5 neighbours": function(is_odd, distance),
    }
    table.append(("odd rows", measure, found, seconds, better))
oddest = test[[np.argmax(oddness)]]
reasons = detector.explain(oddest, n_reasons=5, feature_names=names)
print(reasons.round(2).to_string(index=False))

# (d) New rows ------------------------------------------------------------
#
# Counts as those of single cells. A forest is asked to tell new rows from
# rows held out: 0.5 is a coin, 1 means that it always can. Drawing each
# column from its own values is the simplest way, and has the right zeros.

say("(d) new rows of counts")
cells, held_out = tables.cells(1000, 600)


def new_cells():
    vae = VAETransformer(
        n_components=8,
        likelihood="auto",
        sampler="gaussian_mixture",
        random_state=0,
    )
    return (
        vae.fit(cells).sample(held_out.shape[0], random_state=0).toarray()
    )


def column_by_column():
    rng = np.random.default_rng(0)
    columns = [rng.choice(c, held_out.shape[0]) for c in cells.toarray().T]
    return np.transpose(columns)


def told_apart(rows):
    forest = RandomForestClassifier(100, random_state=0)
    both = np.vstack([held_out.toarray(), rows])
    is_new = np.arange(len(both)) >= held_out.shape[0]
    chance = cross_val_predict(forest, both, is_new, method="predict_proba")
    return roc_auc_score(is_new, chance[:, 1])


draws = {
    "skae": timed(new_cells),
    "each column alone": timed(column_by_column),
}
told = {who: told_apart(rows) for who, (rows, _) in draws.items()}
seconds = {who: seconds for who, (_, seconds) in draws.items()}
table.append(("new rows", "told from real ones", told, seconds, -1))
# What a perfect answer would have: real rows in the place of new ones.
real = told_apart(cells.toarray()[: held_out.shape[0]])

# What is seen? -----------------------------------------------------------

blue, orange, grey = "#0072B2", "#E69F00", "#777777"
plt.rcParams.update(
    {
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlelocation": "left",
        "axes.titleweight": "bold",
        "font.size": 11,
    }
)
figure, axes = plt.subplots(2, 2, figsize=(13, 8.4), layout="constrained")
figure.get_layout_engine().set(wspace=0.08, hspace=0.08)
features, size, odd, new = axes.ravel()

for place, found in enumerate(of_texts.values()):
    for who, colour, at in [
        ("TruncatedSVD", orange, place + 0.15),
        ("skae", blue, place - 0.15),
    ]:
        label = who if place == 0 else None
        y = np.full(len(found[who]), at)
        features.plot(found[who], y, "o", color=colour, alpha=0.35)
        mean = found[who].mean()
        features.plot(mean, at, "D", color=colour, ms=9, label=label)
        features.annotate(
            f"{mean:.3f}", (mean, at), (0, 9), textcoords="offset points"
        ).set_ha("center")
features.set_yticks(range(len(of_texts)), list(of_texts))
features.set_ylim(1.6, -0.6)
features.set(xlabel="accuracy on texts never seen (dots: 3 folds)")
features.legend(frameon=False, loc="lower right", reverse=True)
features.set_title("(a) 32 numbers a text say more")

styles = {
    "skae": (blue, "o-"),
    "FactorAnalysis": (orange, "s--"),
    "PCA": (grey, "^:"),
}
for who, (colour, line) in styles.items():
    score = searches[who].cv_results_["mean_test_score"]
    label = f"{who}: takes {best[who]}"
    size.plot(sizes, score, line, color=colour, label=label)
    top = searches[who].best_index_
    size.plot(sizes[top], score[top], line[0], color=colour, ms=13)
size.set_xscale("log", base=2)
size.set_xticks(sizes, sizes)
size.set(xlabel="n_components", ylabel="log-likelihood of a new row, nats")
size.legend(frameon=False, loc="lower right")
size.set_title("(b) The size is found without labels")

here_or_not = [
    blue if value > 0 else grey for value in reasons["value"][::-1]
]
shares = 100 * reasons["share"][::-1]
odd.barh(reasons["feature"][::-1], shares, color=here_or_not)
odd.set(xlabel="share of the score of the oddest line, per cent")
for colour, label in [
    (blue, "it is there"),
    (grey, "expected, but not there"),
]:
    odd.plot([], [], "s", ms=11, color=colour, label=label)
odd.legend(frameon=False, loc="lower right")
odd.set_title("(c) An odd row has reasons by name")

used = np.asarray((held_out != 0).mean(axis=0)).ravel() > 0.5
pairs = np.triu_indices(used.sum(), 1)


def correlation(rows):
    return np.corrcoef(np.log1p(rows[:, used]), rowvar=False)[pairs]


truth = correlation(held_out.toarray())
for who, colour in [("each column alone", orange), ("skae", blue)]:
    label = f"{who}: told apart {told[who]:.2f}"
    drawn = correlation(draws[who][0])
    new.plot(truth, drawn, ".", ms=4, alpha=0.5, color=colour, label=label)
ends = [truth.min(), truth.max()]
new.plot(ends, ends, color="#333333", lw=1)
new.set(
    xlabel="correlation of two columns, in rows held out",
    ylabel="in new rows",
)
new.legend(frameon=False, loc="upper left", markerscale=3)
new.set_title("(d) New rows keep what goes together")

picture.parent.mkdir(parents=True, exist_ok=True)
figure.savefig(picture, dpi=90)
say(f"written: {picture}")

print(f"\n{'':<40}{'skae':>8}{'simple':>8}  {'which':<19}skae is")
for question, meaning, found, seconds, sign in table:
    ours = found["skae"]
    decimals = 1 if question == "size" else 3
    for who, theirs in list(found.items())[1:]:
        verdict = "better" if sign * (ours - theirs) > 0 else "NOT better"
        times = seconds["skae"] / max(seconds[who], 1e-3)
        print(
            f"{question:<10}{meaning:<30}{ours:8.{decimals}f}"
            f"{theirs:8.{decimals}f}  {who:<19}{verdict}, "
            f"in {seconds['skae']:.1f} s, {times:.0f} times as long"
        )
print(f"Real rows in the place of new ones: told apart {real:.3f}.")
