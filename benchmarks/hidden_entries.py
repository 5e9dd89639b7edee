"""Does the score of hidden entries find the size that a table was made with?

Tables of known size k that are drawn (linear, mildly and strongly curved, flags, topics; see
harness/sized_tables.py), another 40 for each seed base. Two thirds of the rows are fitted with
k - 2 to k + 2, 2 k and 4 k components, the others scored. Prints for each table the size that is
best

AE      by skae.metrics.hidden_entries_score, for AutoencoderTransformer
own     by the score of AutoencoderTransformer itself
VAE     by the score of VAETransformer, a bound of the likelihood
VAE hid by the hidden entries, for VAETransformer
PCA     by the hidden entries, for PCA of up to as many components as there are columns
NMF     the same for NMF, of tables without values below zero

and the processor seconds of all fits of the autoencoder and of their scores by hidden entries.
Then, by kind of table, the share of them whose size was found exactly, and within one.

--kinds takes some kinds alone, --rows tables of that many rows at most (1,000 is a quick look, and
leaves out half of them), --sides some of the columns.

Run: python benchmarks/hidden_entries.py [--seed-base 0] [--kinds linear mild] [--rows 1000]
"""

import numpy as np
from sklearn.decomposition import NMF, PCA

from harness import sized_tables
from harness.command import argument_parser, start
from harness.report import Table
from harness.timing import Stopwatch
from skae import AutoencoderTransformer, VAETransformer
from skae.metrics import hidden_entries_score

KINDS = ("linear", "mild", "strong", "binary", "topics")


def autoencoder(k, table):
    return AutoencoderTransformer(k, likelihood=table.likelihood, random_state=0)


def vae(k, table):
    return VAETransformer(k, likelihood=table.likelihood, random_state=0)


def pca(k, table):
    return PCA(k, random_state=0) if k <= table.n_columns else None


def nmf(k, table):
    return NMF(k, init="nndsvda", max_iter=500) if table.kind == "topics" else None


def own(model, X):
    return model.score(X)


#: Name: what is fitted, and how it is scored.
SIDES = {
    "AE": (autoencoder, hidden_entries_score),
    "own": (autoencoder, own),
    "VAE": (vae, own),
    "VAE hid": (vae, hidden_entries_score),
    "PCA": (pca, hidden_entries_score),
    "NMF": (nmf, hidden_entries_score),
}


def sizes(k):
    """Return the sizes that are fitted, in order."""
    near = range(max(1, k - 2), k + 3)
    return sorted({*near, 2 * k, 4 * k})


class Search:
    """Models of a table by kind and size, each fitted once, and what fits and scores took."""

    def __init__(self, table):
        self.table = table
        # Rows are drawn independently: no need to shuffle.
        cut = 2 * table.n_rows // 3
        self.train, self.test = table.X[:cut], table.X[cut:]
        self.models, self.fit_seconds, self.score_seconds = {}, {}, {}

    def fitted(self, maker):
        """Return the models of one kind by size."""
        if maker not in self.models:
            made = {k: maker(k, self.table) for k in sizes(self.table.k)}
            with Stopwatch() as watch:
                self.models[maker] = {k: one.fit(self.train) for k, one in made.items() if one}
            self.fit_seconds[maker] = watch.cpu
        return self.models[maker]

    def best(self, side):
        """Return the size with the highest score, None where nothing can be fitted."""
        maker, scorer = SIDES[side]
        models = self.fitted(maker)
        with Stopwatch() as watch:
            scores = {k: scorer(model, self.test) for k, model in models.items()}
        self.score_seconds[side] = watch.cpu
        return max(scores, key=scores.get, default=None)


def run_table(printed, table, sides):
    """Print the line of a table; return by how much each side is off, NaN where it has no size."""
    search = Search(table)
    found = [search.best(side) for side in sides]
    seconds = [search.fit_seconds.get(autoencoder), search.score_seconds.get("AE")]
    printed.row(table.name, [table.k, *found, *seconds])
    return [np.nan if size is None else size - table.k for size in found]


def summarise(off, sides):
    """Print by kind how often each side was exact, and within one.

    Parameters
    ----------
    off : dict of str to list
        By kind, for each table the differences of `run_table`.
    sides : sequence of str
    """
    print()
    printed = Table(
        "found: exactly / within one", dict.fromkeys(sides, ""), title_width=32, narrowest=11
    )
    for kind, differences in off.items():
        far = np.abs(differences)
        cells = [_shares(column[~np.isnan(column)]) for column in far.T]
        printed.row(f"{kind} ({len(far)} tables)", cells)


def _shares(far):
    return f"{np.mean(far == 0):.2f} / {np.mean(far <= 1):.2f}" if len(far) else None


def compare(seed_base=0, kinds=KINDS, *, most_rows=None, sides=tuple(SIDES)):
    """Print what size each side finds; return the differences from the true one.

    Parameters
    ----------
    seed_base : int
    kinds : iterable of str
    most_rows : int or None
        Leave out tables of more rows.
    sides : iterable of str
        Of `SIDES`.

    Returns
    -------
    off : dict of str to list
        By kind a list of differences for each table, in the order of ``sides``.
    """
    heads = {"k": "d", **dict.fromkeys(sides, "d"), "s, fits": ".1f", "s, scores": ".1f"}
    printed, off = Table("table", heads, title_width=32), {}
    for table in sized_tables.tables(seed_base, kinds):
        if most_rows is None or table.n_rows <= most_rows:
            off.setdefault(table.kind, []).append(run_table(printed, table, sides))
    summarise(off, sides)
    return off


def main():
    parser = argument_parser(__doc__)
    parser.add_argument("--seed-base", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--rows", type=int, help="leave out tables of more rows")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=tuple(SIDES))
    arguments = start(parser)
    compare(arguments.seed_base, arguments.kinds, most_rows=arguments.rows, sides=arguments.sides)


if __name__ == "__main__":
    main()
