"""How well do topics predict the words of new messages?

newsgroups20, multinomial VAE of 50 components with default settings: exp of minus the
log-likelihood (its lower bound) per word of the test messages, without the multinomial coefficient,
beside the unigram model, scikit-learn's LDA with 50 topics and NMF.
"""

import numpy as np
from scipy.special import digamma, gammaln
from sklearn.decomposition import NMF, LatentDirichletAllocation

from harness import data
from harness.report import Table
from harness.timing import Stopwatch
from skae import VAETransformer
from skae.likelihoods import Multinomial

N_TOPICS = 50


def newsgroups(folder, arguments):
    """Return training and test messages as counts of the most frequent words."""
    found = data.load(folder, "newsgroups20")
    parts = []
    for X in (found.X[:, : arguments.words], found.test.X[:, : arguments.words]):
        total = X.sum(axis=1)
        parts.append(X[(total > 0) & (total <= arguments.longest)])
    return parts


def of_unigram(train, test):
    """Return the perplexity under the frequencies of words, with one more of each."""
    counts = train.sum(axis=0) + 1.0
    log_share = np.log(counts / counts.sum())
    return np.exp(-(test @ log_share).sum() / test.sum())


def of_lda(lda, test):
    """Return the perplexity by the bound of each message, topics taken as known, as the VAE's is.

    The method ``perplexity`` of scikit-learn also charges for not knowing the topics.
    """
    topics = lda.components_ / lda.components_.sum(axis=1, keepdims=True)
    gamma = lda.transform(test)
    length = test.sum(axis=1)
    prior = lda.doc_topic_prior_
    gamma = gamma * (length + prior * gamma.shape[1])[:, None]  # of the Dirichlet posterior
    log_theta = digamma(gamma) - digamma(gamma.sum(axis=1, keepdims=True))
    row, column = test.nonzero()
    word = np.exp(log_theta)[row] * topics[:, column].T
    bound = (test.data * np.log(word.sum(axis=1))).sum()
    bound += ((prior - gamma) * log_theta).sum()
    bound += (gammaln(gamma) - gammaln(prior)).sum()
    bound += (gammaln(prior * gamma.shape[1]) - gammaln(gamma.sum(axis=1))).sum()
    return np.exp(-bound / test.sum())


def of_nmf(train, test):
    """Return the perplexity of a factorisation under the Kullback-Leibler loss, smoothed.

    It sees each test message before it predicts it, as LDA's and the VAE's bounds do not.
    """
    nmf = NMF(N_TOPICS, beta_loss="kullback-leibler", solver="mu", max_iter=100, random_state=0)
    nmf.fit(train)
    shares = nmf.transform(test) @ nmf.components_ + 1e-3
    shares /= shares.sum(axis=1, keepdims=True)
    row, column = test.nonzero()
    return np.exp(-(test.data * np.log(shares[row, column])).sum() / test.sum())


def vae_row(train, test, seed):
    """Return perplexity, seconds of the fit, and how it was trained."""
    vae = VAETransformer(N_TOPICS, likelihood=Multinomial(coefficient=False), random_state=seed)
    with Stopwatch() as watch:
        vae.fit(train)
    value = np.exp(-vae.score_samples(test).sum() / test.sum())
    return value, watch.cpu, vae.sparse_method_, vae.n_iter_, vae.kl_.sum()


def run(folder, arguments):
    train, test = newsgroups(folder, arguments)
    print(f"\nnewsgroups20, {train.shape[1]} words, test messages {test.shape[0]}")
    heads = {"perplexity": ".1f", "CPU, s": ".1f", "way": "", "epochs": "d", "KL": ".1f"}
    table = Table("", heads, title_width=20)
    table.row("unigram", [of_unigram(train, test), *[None] * 4])
    for seed in range(arguments.seeds):
        table.row(f"VAE, seed {seed}", vae_row(train, test, seed))
    with Stopwatch() as watch:
        lda = LatentDirichletAllocation(N_TOPICS, random_state=0).fit(train)
    table.row("LDA", [of_lda(lda, test), watch.cpu, *[None] * 3])
    table.row("LDA, its own method", [lda.perplexity(test), *[None] * 4])
    with Stopwatch() as watch:
        value = of_nmf(train, test)
    table.row("NMF (fitted)", [value, watch.cpu, *[None] * 3])
