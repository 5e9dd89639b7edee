"""How much sooner is a held-out value reached where columns are sampled?

Exact held-out log-likelihood of the same rows against seconds of training, with columns sampled and
with all of them, on newsgroups20 and on topics made up over 100,000 words. Prints when the one
reaches what the other ends with.
"""

import time

import numpy as np
from skorch.callbacks import Callback

from harness.made_up import topics
from harness.report import Table
from skae import VAETransformer
from skae._training.inference import map_rows
from skae.likelihoods import Multinomial
from sparse_tables.perplexity import newsgroups


class Course(Callback):
    """Seconds of training, and the exact mean log-likelihood of held-out rows, after each epoch."""

    def __init__(self, test, found):
        self.test = test
        self.found = found

    def on_train_begin(self, net, **kwargs):
        self.spent, self.since = 0.0, time.process_time()

    def on_epoch_end(self, net, **kwargs):
        self.spent += time.process_time() - self.since
        self.found.append((self.spent, self.score(net.module_)))
        self.since = time.process_time()

    def score(self, module):
        parts = map_rows(module.score, self.test, module, width=self.test.shape[1], csr=True)
        value = float(np.concatenate(list(parts)).mean())
        module.train()
        return value


def course_of(method, train, test, seed, n_epochs):
    """Return seconds (of this process) and held-out log-likelihood of each epoch."""
    found = []
    VAETransformer(
        50,
        likelihood=Multinomial(coefficient=False),
        sparse_method=method,
        max_iter=n_epochs,
        n_iter_no_change=n_epochs,
        callbacks=[Course(test, found)],
        random_state=seed,
    ).fit(train)
    return np.array(found)


def compare(train, test, seed, n_epochs):
    """Return what both reach and when, in the order of the columns of the table."""
    exact = course_of("exact", train, test, seed, n_epochs // 2)
    sampled = course_of("sampled", train, test, seed, n_epochs)
    seconds, best = exact[exact[:, 1].argmax()]
    reached = np.flatnonzero(sampled[:, 1] >= best)
    when = sampled[reached[0], 0] if len(reached) else np.nan
    return best, seconds, when, seconds / when, sampled[:, 1].max(), sampled[-1, 0]


def run(folder, arguments):
    train, test = newsgroups(folder, arguments)
    made_up = topics()
    sets = {
        "newsgroups20": (train, test[:1000], 40),
        "made-up topics": (made_up[:8000], made_up[8000:8200], 12),
    }
    print("\nheld-out nats a row, and CPU seconds: all columns; sampled ones, to the same value")
    heads = {"exact best": ".2f", "at, s": ".1f", "sampled at, s": ".1f", "times sooner": ".1f"}
    table = Table("", heads | {"sampled best": ".2f", "in all, s": ".1f"})
    for name, (train, test, n_epochs) in sets.items():
        for seed in range(arguments.seeds):
            table.row(f"{name}, {seed}", compare(train, test, seed, n_epochs))
