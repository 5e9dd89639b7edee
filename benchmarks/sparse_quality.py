"""What do models of sparse tables learn, beside simple ones, and how fast?

Reads the folder of data sets by its path. Parts, all by default:

- perplexity: newsgroups20, multinomial VAE of 50 components with default settings: exp of minus the
  log-likelihood (its lower bound) per word of the test messages, without the multinomial
  coefficient, beside the unigram model, scikit-learn's LDA with 50 topics and NMF. With --words N
  for the N most frequent words alone; with --longest N messages of more words than that (encoded
  binaries) are left out.
- speed: exact held-out log-likelihood of the same rows against seconds of training, with columns
  sampled and with all of them, on newsgroups20 and on topics made up over 100,000 words. Prints
  when the one reaches what the other ends with.
- probe: accuracy (macro F1 beside) of a logistic regression on 32 components of TF-IDF, on
  newsgroups20 and cora_words, three seeds, beside TruncatedSVD and NMF.
- counts: worm_neuron_counts: share of zeros and column means of generated cells beside those of
  held-out cells; held-out log-likelihood by likelihood.

Run: python benchmarks/sparse_quality.py FOLDER [perplexity speed probe counts] [--seeds 3]
"""

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from scipy.special import digamma, gammaln
from sklearn.decomposition import NMF, LatentDirichletAllocation, TruncatedSVD
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback

from skae import DenoisingAETransformer, VAETransformer
from skae.likelihoods import Multinomial


def load(folder, name):
    """Return a CSR matrix of float64."""
    return sp.csr_array(sp.load_npz(folder / f"{name}.npz")).astype(np.float64)


def without_empty(X):
    """Return the rows that are not all zero."""
    return X[np.asarray(X.sum(axis=1)).ravel() > 0]


# Perplexity ---------------------------------------------------------------------------------------


def newsgroups(folder, arguments):
    """Return training and test messages as counts."""
    parts = []
    for split in ("train", "test"):
        X = load(folder, f"newsgroups20_X_{split}")[:, : arguments.words]
        total = np.asarray(X.sum(axis=1)).ravel()
        parts.append(X[(total > 0) & (total <= arguments.longest)])
    return parts


def perplexity_of(shares, X):
    """Return the perplexity under probabilities of words given for each message."""
    row, column = X.nonzero()
    return float(np.exp(-(X.data * np.log(shares[row, column])).sum() / X.sum()))


def of_unigram(train, test):
    counts = np.asarray(train.sum(axis=0)).ravel() + 1.0
    log_share = np.log(counts / counts.sum())
    return float(np.exp(-(test @ log_share).sum() / test.sum()))


def of_lda(lda, test):
    """Return the perplexity by the bound of each message, topics taken as known, as the VAE's is.

    The method ``perplexity`` of scikit-learn also charges for not knowing the topics.
    """
    topics = lda.components_ / lda.components_.sum(axis=1, keepdims=True)
    gamma = lda.transform(test)
    length = np.asarray(test.sum(axis=1)).ravel()
    prior = lda.doc_topic_prior_
    gamma = gamma * (length + prior * gamma.shape[1])[:, None]  # of the Dirichlet posterior
    log_theta = digamma(gamma) - digamma(gamma.sum(axis=1, keepdims=True))
    row, column = test.nonzero()
    word = np.exp(log_theta)[row] * topics[:, column].T
    bound = (test.data * np.log(word.sum(axis=1))).sum()
    bound += ((prior - gamma) * log_theta).sum()
    bound += (gammaln(gamma) - gammaln(prior)).sum()
    bound += (gammaln(prior * gamma.shape[1]) - gammaln(gamma.sum(axis=1))).sum()
    return float(np.exp(-bound / test.sum()))


def of_nmf(train, test):
    """Return the perplexity of a factorisation under the Kullback-Leibler loss, smoothed.

    It sees each test message before it predicts it, as LDA's and the VAE's bounds do not.
    """
    nmf = NMF(50, beta_loss="kullback-leibler", solver="mu", max_iter=100, random_state=0)
    nmf.fit(train)
    shares = nmf.transform(test) @ nmf.components_ + 1e-3
    return perplexity_of(shares / shares.sum(axis=1, keepdims=True), test)


def perplexity(folder, arguments):
    train, test = newsgroups(folder, arguments)
    print(f"\nnewsgroups20, {train.shape[1]} words, test messages {test.shape[0]}")
    print(f"{'unigram':12} {of_unigram(train, test):8.1f}", flush=True)
    for seed in range(arguments.seeds):
        start = time.perf_counter()
        vae = VAETransformer(50, likelihood=Multinomial(coefficient=False), random_state=seed)
        vae.fit(train)
        seconds = time.perf_counter() - start
        value = np.exp(-vae.score_samples(test).sum() / test.sum())
        print(
            f"{'VAE':12} {value:8.1f} {seconds:8.1f} s ({vae.sparse_method_}, {vae.n_iter_} "
            f"epochs, KL {vae.kl_.sum():.1f})",
            flush=True,
        )
    start = time.perf_counter()
    lda = LatentDirichletAllocation(50, random_state=0).fit(train)
    print(
        f"{'LDA':12} {of_lda(lda, test):8.1f} {time.perf_counter() - start:8.1f} s "
        f"(its own method perplexity: {lda.perplexity(test):.1f})",
        flush=True,
    )
    start = time.perf_counter()
    print(f"{'NMF (fitted)':12} {of_nmf(train, test):8.1f} {time.perf_counter() - start:8.1f} s")


# Speed --------------------------------------------------------------------------------------------


class Course(Callback):
    """Seconds of training, and the exact mean log-likelihood of held-out rows, after each epoch."""

    def __init__(self, holder):
        self.holder = holder

    def on_train_begin(self, net, **kwargs):
        self.spent, self.since = 0.0, time.process_time()

    def on_epoch_end(self, net, **kwargs):
        self.spent += time.process_time() - self.since
        self.holder["course"].append((self.spent, self.holder["score"](net)))
        self.since = time.process_time()


def course_of(method, train, test, seed, n_epochs):
    """Return seconds (of this process) and held-out log-likelihood of each epoch."""
    from skae._training.inference import map_rows

    def score(net):
        module = net.module_
        parts = map_rows(module.score, test, module, width=test.shape[1], csr=True)
        value = float(np.concatenate(list(parts)).mean())
        module.train()
        return value

    holder = {"course": [], "score": score}
    VAETransformer(
        50,
        likelihood=Multinomial(coefficient=False),
        sparse_method=method,
        max_iter=n_epochs,
        n_iter_no_change=n_epochs,
        callbacks=[Course(holder)],
        random_state=seed,
    ).fit(train)
    return np.array(holder["course"])


def topics(n_rows=8_500, n_words=100_000, n_topics=50, length=76, seed=0):
    """Return documents of made-up topics over words whose frequency follows Zipf's law."""
    rng = np.random.default_rng(seed)
    base = 1.0 / (10.0 + np.arange(n_words))
    shares = base * rng.gamma(0.1, size=(n_topics, n_words))
    ends = np.cumsum(shares / shares.sum(axis=1, keepdims=True), axis=1)
    mixtures = rng.dirichlet(np.full(n_topics, 0.05), size=n_rows)
    rows, columns = [], []
    for row, mixture in enumerate(mixtures):
        for topic, n in enumerate(rng.multinomial(length, mixture)):
            columns.append(np.searchsorted(ends[topic], rng.random(n)).clip(max=n_words - 1))
            rows.append(np.full(n, row))
    rows, columns = np.concatenate(rows), np.concatenate(columns)
    X = sp.csr_array((np.ones(len(rows)), (rows, columns)), shape=(n_rows, n_words))
    X.sum_duplicates()
    return X


def speed(folder, arguments):
    train, test = newsgroups(folder, arguments)
    made_up = topics()
    sets = {
        "newsgroups20": (train, test[:1000], 40),
        "made-up topics": (made_up[:8000], made_up[8000:8200], 12),
    }
    for name, (train, test, n_epochs) in sets.items():
        print(f"\n{name}, {train.shape[1]} columns: seconds of training to a held-out value")
        for seed in range(arguments.seeds):
            exact = course_of("exact", train, test, seed, n_epochs // 2)
            sampled = course_of("sampled", train, test, seed, n_epochs)
            best = exact[:, 1].argmax()
            reached = np.flatnonzero(sampled[:, 1] >= exact[best, 1])
            when = sampled[reached[0], 0] if len(reached) else np.nan
            print(
                f"seed {seed}: exact {exact[best, 1]:.2f} at {exact[best, 0]:.1f} s; sampled "
                f"reaches that at {when:.1f} s ({exact[best, 0] / when:.1f} times sooner), "
                f"its best {sampled[:, 1].max():.2f} of {sampled[-1, 0]:.1f} s",
                flush=True,
            )


# Probe --------------------------------------------------------------------------------------------


def text_sets(folder):
    """Yield name, counts and labels of training and test rows."""
    with np.load(folder / "newsgroups20_y.npz", allow_pickle=True) as y:
        yield (
            "newsgroups20",
            load(folder, "newsgroups20_X_train"),
            y["y_train"],
            load(folder, "newsgroups20_X_test"),
            y["y_test"],
        )
    with np.load(folder / "cora_words_y.npz") as y:
        X, labels = load(folder, "cora_words_X"), y["y"]
    train, test = train_test_split(
        np.arange(len(labels)), test_size=0.3, random_state=0, stratify=labels
    )
    yield "cora_words", X[train], labels[train], X[test], labels[test]


def reducers(seed):
    return {
        "skae": DenoisingAETransformer(32, noise_level=0.5, input_scaling=None, random_state=seed),
        "TruncatedSVD": TruncatedSVD(32, random_state=seed),
        "NMF": NMF(32, max_iter=400, random_state=seed),
    }


def probe(folder, arguments):
    for name, train, y_train, test, y_test in text_sets(folder):
        weights = TfidfTransformer(sublinear_tf=True).fit(train)
        train, test = sp.csr_array(weights.transform(train)), sp.csr_array(weights.transform(test))
        print(f"\n{name}: TF-IDF, logistic regression on 32 components")
        for method in reducers(0):
            found = []
            for seed in range(arguments.seeds):
                start = time.perf_counter()
                reducer = reducers(seed)[method].fit(train)
                seconds = time.perf_counter() - start
                model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
                model.fit(reducer.transform(train), y_train)
                predicted = model.predict(reducer.transform(test))
                f1 = f1_score(y_test, predicted, average="macro")
                found.append(((predicted == y_test).mean(), f1, seconds))
            accuracy, f1, seconds = np.mean(found, axis=0)
            spread = np.std([value[0] for value in found])
            print(
                f"{method:14} accuracy {accuracy:.4f} (sd {spread:.4f})  F1 {f1:.4f}  "
                f"{seconds:6.1f} s",
                flush=True,
            )


# Counts -------------------------------------------------------------------------------------------


def counts(folder, arguments):
    X = load(folder, "worm_neuron_counts_X")
    train, test = train_test_split(X, test_size=0.3, random_state=0)
    zeros = 1.0 - test.nnz / np.prod(test.shape)
    print(f"\nworm_neuron_counts: {zeros:.4%} zeros in held-out cells")
    for likelihood in ("poisson", "negative_binomial", "zero_inflated_negative_binomial"):
        start = time.perf_counter()
        vae = VAETransformer(16, likelihood=likelihood, random_state=0).fit(train)
        seconds = time.perf_counter() - start
        drawn = vae.sample(test.shape[0], random_state=0)
        means = [np.log1p(np.asarray(rows.mean(axis=0)).ravel()) for rows in (drawn, test)]
        print(
            f"{likelihood:32} zeros {1 - drawn.nnz / np.prod(drawn.shape):.4%}, column means "
            f"correlate {np.corrcoef(*means)[0, 1]:.4f}, {type(drawn).__name__} of {drawn.dtype}, "
            f"smallest {drawn.min()}, score {vae.score(test):.1f}, {seconds:.0f} s",
            flush=True,
        )


PARTS = {"perplexity": perplexity, "speed": speed, "probe": probe, "counts": counts}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("parts", nargs="*", default=list(PARTS), help=", ".join(PARTS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--words", type=int, default=10_000)
    parser.add_argument("--longest", type=float, default=np.inf)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    for part in arguments.parts:
        PARTS[part](arguments.folder, arguments)


if __name__ == "__main__":
    main()
