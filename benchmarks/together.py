"""What does a search cost whose fits are trained side by side, beside one that trains them alone?

Tables of scikit-learn: digits (64 columns) and breast_cancer (30 columns, standardised), searched
over n_components of 2, 4, 8, 16 and 32 in 3 folds without shuffling: 15 fits of VAETransformer with
a hidden layer of 128 and 64 units, once with the default training and once with a fixed one (digits
50 epochs, breast_cancer 100, nothing held out). With --large also made-up tables of 1,500 rows of
64, 128 and 256 columns, 256 hidden units, 20 epochs, and of 784, which are trained one by one.

Both sides search in one process, in turns, without the refit. The price is processor time of the
search with skae.together() over that of one ordinary fit and its score, the mean of the 15 of the
other side in the same round: 15 is no gain. "alone" are the seconds of the search without;
"difference" is the largest of the 15 scores, in nats. What the first pass of a process costs, for
parts of torch are imported then, is a line of its own.

Run: python benchmarks/together.py [--rounds 3] [--only digits] [--quick]
"""

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import StandardScaler

from harness.command import argument_parser, start
from harness.report import Table
from harness.timing import Stopwatch
from skae import VAETransformer, together

SIZES = [2, 4, 8, 16, 32]
N_FOLDS = 3
N_FITS = len(SIZES) * N_FOLDS


def tables(large):
    """Yield name, rows, units of the hidden layer and epochs of the fixed training."""
    cancer = StandardScaler().fit_transform(load_breast_cancer().data)
    digits = load_digits().data
    yield "digits, 128", digits, 128, 50
    yield "breast_cancer, 64", cancer, 64, 100
    for n_columns in (64, 128, 256, 784) if large else ():
        rng = np.random.RandomState(0)
        signal = rng.normal(size=(1_500, 5)) @ rng.normal(size=(5, n_columns))
        yield f"{n_columns} columns, 256", signal + rng.normal(size=signal.shape), 256, 20


def searched(X, n_hidden, training):
    """Return the scores of all fits, and the seconds of the search."""
    vae = VAETransformer(hidden_layer_sizes=(n_hidden,), random_state=0, **training)
    search = GridSearchCV(vae, {"n_components": SIZES}, cv=N_FOLDS, refit=False)
    with Stopwatch() as watch:
        found = search.fit(X).cv_results_
    scores = [found[f"split{fold}_test_score"] for fold in range(N_FOLDS)]
    return np.array(scores), watch.cpu


def first_pass(X):
    """Return the seconds of two fits of two epochs in the first pass of this process."""
    training = {"max_iter": 2, "early_stopping": False}
    with together():
        search = GridSearchCV(VAETransformer(random_state=0, **training), {"beta": [1]}, cv=2)
        with Stopwatch() as watch:
            search.fit(X[:100])
    return watch.cpu


def compare(table, name, X, n_hidden, training, rounds):
    """Print a row of the table."""
    prices, seconds, differences = [], [], []
    for _ in range(rounds):
        with together():
            beside, price = searched(X, n_hidden, training)
        alone, cost = searched(X, n_hidden, training)
        prices.append(N_FITS * price / cost)
        seconds.append(cost)
        differences.append(np.abs(beside - alone).max())
    ends = [np.median(prices), min(prices), max(prices)]
    table.row(name, [*ends, np.median(seconds), max(differences)])


def main():
    parser = argument_parser(__doc__, rounds=3)
    parser.add_argument("--only", default="", help="tables whose name holds this")
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--quick", action="store_true", help="a tenth of the epochs, one round")
    arguments = start(parser)
    print(f"first pass of the process: {first_pass(load_digits().data):.1f} s")
    heads = {"price": ".2f", "lowest": ".2f", "highest": ".2f", "alone, s": ".1f"}
    table = Table("table, hidden, training", heads | {"difference": ".0e"}, title_width=36)
    for name, X, n_hidden, n_epochs in tables(arguments.large):
        if arguments.only not in name:
            continue
        if arguments.quick:
            n_epochs = max(1, n_epochs // 10)
        fixed = {"max_iter": n_epochs, "early_stopping": False}
        kinds = {f"{n_epochs} epochs": fixed}
        if not arguments.quick and "columns" not in name:
            kinds["default"] = {}
        for kind, training in kinds.items():
            rounds = 1 if arguments.quick else arguments.rounds
            compare(table, f"{name}, {kind}", X, n_hidden, training, rounds)


if __name__ == "__main__":
    main()
