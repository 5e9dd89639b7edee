"""Does every kind of sparsity meet its target, on new rows too, and what is it worth there?

For each table, format and kind, one default fit: active units a row as a share of the target on
training rows and on others, the share of the variance of new rows that is left (columns brought to
one variance), the share of units that no training row uses, and seconds.

Tables: digits, a9a and worm_neuron_counts of the folder (the 2,000 columns in most use), dense and
CSR. --units and --active say how wide; --rank N in the place of --units asks for N times the rank.

Run: python benchmarks/sparsity_kinds.py FOLDER [--tables digits ...] [--kinds topk ...]
     [--formats dense csr] [--units 64] [--active 8] [--seeds 1] [--rows 8000]
"""

import scipy.sparse as sp

from harness import data
from harness.command import argument_parser, folder, start
from harness.report import Table
from harness.timing import Stopwatch
from skae import SparseAutoencoderTransformer
from skae.sparsity import SPARSITIES

TABLES = ("digits", "a9a", "worm_neuron_counts")
FORMATS = {"dense": lambda X: X.toarray() if sp.issparse(X) else X, "csr": sp.csr_array}
COLUMNS = {
    "train": ".3f",
    "new": ".3f",
    "left": ".3f",
    "dead %": ".1f",
    "epochs": "d",
    "s": ".0f",
}


def halves(path, name, seed, n_rows):
    """Return training and new rows of a table, no more than so many each."""
    found = data.of(path, name)
    if found.X.shape[1] > 2000:
        found = data.DataSet(name, data.most_frequent(found.X, 2000))
    train, new = data.split(data.DataSet(name, found.X, test=found.test), seed)
    return [data.at_most(part, n_rows, seed).X for part in (train, new)]


def variance_left(estimator, train, new):
    """Return the share of the variance of new rows that their reconstruction leaves."""
    dense = FORMATS["dense"]
    scale = dense(train).std(axis=0)
    used = scale > 0
    error = (dense(new) - dense(estimator.reconstruct(new)))[:, used] / scale[used]
    around = (dense(new) - dense(train).mean(axis=0))[:, used] / scale[used]
    return (error**2).sum() / (around**2).sum()


def measured(estimator, train, new):
    """Return the figures of a fit."""
    with Stopwatch() as watch:
        estimator.fit(train)
    target = estimator.n_active or estimator.n_components // 4
    active = [(estimator.transform(X) > 0).sum(axis=1).mean() / target for X in (train, new)]
    dead = (estimator.transform(train) > 0).any(axis=0)
    return [
        *active,
        variance_left(estimator, train, new),
        100 * (1 - dead.mean()),
        estimator.n_iter_,
        watch.cpu,
    ]


def main():
    parser = argument_parser(__doc__, seeds=1)
    parser.add_argument("folder", type=folder)
    parser.add_argument("--tables", nargs="+", default=TABLES)
    parser.add_argument("--kinds", nargs="+", default=list(SPARSITIES))
    parser.add_argument("--formats", nargs="+", default=list(FORMATS))
    parser.add_argument("--units", type=int, default=64)
    parser.add_argument("--active", type=float)
    parser.add_argument("--rows", type=int, default=8000)
    parser.add_argument("--likelihood", default="gaussian")
    arguments = start(parser)
    table = Table("table, format, kind", COLUMNS, title_width=38)
    for seed in range(arguments.seeds):
        for name in arguments.tables:
            train, new = halves(arguments.folder, name, seed, arguments.rows)
            for form in arguments.formats:
                rows = [FORMATS[form](X) for X in (train, new)]
                for kind in arguments.kinds:
                    estimator = SparseAutoencoderTransformer(
                        arguments.units,
                        sparsity=kind,
                        n_active=arguments.active,
                        likelihood=arguments.likelihood,
                        random_state=seed,
                    )
                    table.row(f"{name} {form} {kind}", measured(estimator, *rows))


if __name__ == "__main__":
    main()
