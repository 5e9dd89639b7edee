"""What are texts about?

Docstrings of five packages as counts of words: a sparse matrix of 2,000 columns. A multinomial
`VAETransformer` describes each text by 20 numbers. How well does it predict the words of texts that
it did not see (from source files that it did not see, either)? Are its codes good features: can a
linear classifier tell the package by them? And what do they stand for: which words go with a
latent, and what does a made-up text hold? Beside it stand `LatentDirichletAllocation`, made for
this, and `TruncatedSVD` on TF-IDF, the usual features of text.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from scipy.special import digamma, gammaln, logsumexp
from sklearn.decomposition import LatentDirichletAllocation, TruncatedSVD
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import VAETransformer
from skae.datasets import load_docstrings
from skae.likelihoods import Multinomial

docstrings = load_docstrings()
split = GroupShuffleSplit(n_splits=1, test_size=0.3, random_state=0)
train, test = next(split.split(docstrings.data, groups=docstrings.filenames))
counter = CountVectorizer(
    max_features=2000, stop_words="english", token_pattern=r"\b[a-z][a-z]+\b", dtype=np.float64
)
texts = np.array(docstrings.data, dtype=object)
X, X_test = counter.fit_transform(texts[train]), counter.transform(texts[test])
y, y_test = docstrings.target[train], docstrings.target[test]
words = counter.get_feature_names_out()

n_topics = 20
vae = VAETransformer(
    n_topics,
    # The score is then that of the words one after the other: what perplexity is made of.
    likelihood=Multinomial(coefficient=False),
    hidden_layer_sizes=(),  # with a linear decoder each latent has a weight for each word
    learning_rate_init=5e-3,
    tol=1e-2,
    n_iter_no_change=5,
    random_state=0,
).fit(X)
lda = LatentDirichletAllocation(n_topics, topic_word_prior=0.5, random_state=0).fit(X)
tfidf = TfidfTransformer(sublinear_tf=True).fit(X)
svd = TruncatedSVD(n_topics, random_state=0).fit(tfidf.transform(X))


def lda_bound(rows):
    """Lower bound of the log-likelihood of each text given its length, in nats, as the VAE has it.

    `LatentDirichletAllocation.score` moreover takes off the uncertainty about the topics
    themselves, which no other model here is charged for.
    """
    topics = lda.components_ / lda.components_.sum(axis=1, keepdims=True)
    prior = 1 / n_topics
    posterior = lda.transform(rows) * (np.asarray(rows.sum(axis=1)).reshape(-1, 1) + 1)
    total = posterior.sum(axis=1, keepdims=True)
    log_share = digamma(posterior) - digamma(total)
    text, word = rows.nonzero()
    of_word = rows.data * logsumexp(log_share[text] + np.log(topics[:, word].T), axis=1)
    divergence = gammaln(total[:, 0]) - gammaln(posterior).sum(axis=1) + n_topics * gammaln(prior)
    divergence += ((posterior - prior) * log_share).sum(axis=1)
    return np.bincount(text, of_word, minlength=len(posterior)) - divergence


def perplexity(log_likelihood):
    """How many equally likely words there seem to be at each place; lower is better."""
    return np.exp(-log_likelihood / X_test.sum())


classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
frequency = (X.sum(axis=0).A1 if hasattr(X, "A1") else np.asarray(X.sum(axis=0)).ravel()) + 0.1
likelihood_of = {
    "each word by its frequency": (X_test @ np.log(frequency / frequency.sum())).sum(),
    "LDA": lda_bound(X_test).sum(),
    "skae": vae.score_samples(X_test).sum(),
}
codes_of = {
    "LDA": (lda.transform(X), lda.transform(X_test)),
    "TruncatedSVD": (svd.transform(tfidf.transform(X)), svd.transform(tfidf.transform(X_test))),
    "skae": (vae.transform(X), vae.transform(X_test)),
}
print(f"{'on held-out files':<28}{'perplexity':>12}{'accuracy of a linear classifier':>34}")
for name in ("each word by its frequency", "LDA", "TruncatedSVD", "skae"):
    left = f"{perplexity(likelihood_of[name]):12.0f}" if name in likelihood_of else f"{'-':>12}"
    right = f"{'-':>34}"
    if name in codes_of:
        codes, codes_test = codes_of[name]
        right = f"{classifier.fit(codes, y).score(codes_test, y_test):34.3f}"
    print(f"{name:<28}{left}{right}")
print(f"LDA.perplexity, topics charged for as well: {lda.perplexity(X_test):.0f}")
