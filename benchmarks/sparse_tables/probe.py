"""What is left of the classes of texts in 32 numbers?

Accuracy (macro F1 beside) of a logistic regression on 32 components of TF-IDF, on newsgroups20 and
cora_words, beside TruncatedSVD and NMF. The last columns: skae's accuracy less that of the row,
mean over seeds and its standard error.
"""

import numpy as np
from sklearn.metrics import accuracy_score, f1_score

from harness import data
from harness.features import OF_TEXTS, logistic, tfidf
from harness.report import Table, paired
from harness.timing import Stopwatch
from skae import DenoisingAETransformer

SETS = ("newsgroups20", "cora_words")
N_COMPONENTS = 32
REDUCERS = {
    "skae": lambda k, seed: DenoisingAETransformer(
        k, noise_level=0.5, input_scaling=None, random_state=seed
    ),
    **OF_TEXTS,
}


def measure(reducer, train, y_train, test, y_test):
    """Return accuracy, macro F1 and the seconds of the fit."""
    with Stopwatch() as watch:
        reducer.fit(train)
    predicted = logistic().fit(reducer.transform(train), y_train).predict(reducer.transform(test))
    f1 = f1_score(y_test, predicted, average="macro")
    return accuracy_score(y_test, predicted), f1, watch.cpu


def run(folder, arguments):
    heads = {"accuracy": ".4f", "sd": ".4f", "F1": ".4f", "CPU, s": ".1f"}
    for name in SETS:
        train, test = data.split(data.load(folder, name))
        X_train, X_test = tfidf(train.X, test.X)
        print(f"\n{name}: TF-IDF, logistic regression on {N_COMPONENTS} components")
        table = Table("", heads | {"skae less it": "+.4f", "+-": ".4f"}, title_width=14)
        ours = None
        for method, reducer in REDUCERS.items():
            runs = [
                measure(reducer(N_COMPONENTS, seed), X_train, train.y, X_test, test.y)
                for seed in range(arguments.seeds)
            ]
            accuracy, f1, seconds = np.transpose(runs)
            ours = accuracy if ours is None else ours
            gain = paired(ours, accuracy)
            means = accuracy.mean(), accuracy.std(), f1.mean(), seconds.mean()
            table.row(method, [*means, gain.mean, gain.error])
