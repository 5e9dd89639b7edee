"""
What are texts about?
=====================

Docstrings of five packages as counts of words: a sparse matrix of 2,000
columns. A multinomial ``VAETransformer`` describes each text by 20 numbers.
How well does it predict the words of texts that it did not see (from
source files that it did not see, either)? Are its codes good features: can
a linear classifier tell the package by them? And what do they stand for:
which words go with a latent, and what does a made-up text hold? Beside it
stand ``LatentDirichletAllocation``, made for this, and ``TruncatedSVD`` on
TF-IDF, the usual features of text.
"""

import matplotlib.pyplot as plt
import numpy as np
import pictures
from docstrings import load_docstrings
from scipy.special import digamma, gammaln, logsumexp
from sklearn.decomposition import LatentDirichletAllocation, TruncatedSVD
from sklearn.feature_extraction.text import (
    CountVectorizer,
    TfidfTransformer,
)
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import VAETransformer
from skae.likelihoods import Multinomial

docstrings = load_docstrings()
split = GroupShuffleSplit(n_splits=1, test_size=0.3, random_state=0)
train, test = next(
    split.split(docstrings.data, groups=docstrings.filenames)
)
letters = r"\b[a-z][a-z]+\b"
counter = CountVectorizer(
    max_features=2000,
    stop_words="english",
    token_pattern=letters,
    dtype=np.float64,
)
texts = np.array(docstrings.data, dtype=object)
X, X_test = (
    counter.fit_transform(texts[train]),
    counter.transform(texts[test]),
)
y, y_test = docstrings.target[train], docstrings.target[test]
words = counter.get_feature_names_out()

n_topics = 20
vae = VAETransformer(
    n_topics,
    # The score is then that of the words one after the other: what
    # perplexity is made of.
    likelihood=Multinomial(coefficient=False),
    hidden_layer_sizes=(),  # a latent then has a weight for each word
    alpha=0.1,  # there are few texts
    learning_rate_init=5e-3,
    tol=1e-2,
    n_iter_no_change=5,
    random_state=0,
).fit(X)
lda = LatentDirichletAllocation(
    n_topics, topic_word_prior=0.5, max_iter=20, random_state=0
).fit(X)
tfidf = TfidfTransformer(sublinear_tf=True).fit(X)
svd = TruncatedSVD(n_topics, random_state=0).fit(tfidf.transform(X))


def lda_bound(rows):
    """Lower bound of the log-likelihood of each text given its length.

    In nats, as the VAE has it. ``LatentDirichletAllocation.score`` moreover
    takes off the uncertainty about the topics themselves, which no other
    model here is charged for.
    """
    topics = lda.components_ / lda.components_.sum(axis=1, keepdims=True)
    prior = 1 / n_topics
    posterior = lda.transform(rows) * (
        np.asarray(rows.sum(axis=1)).reshape(-1, 1) + 1
    )
    total = posterior.sum(axis=1, keepdims=True)
    log_share = digamma(posterior) - digamma(total)
    text, word = rows.nonzero()
    of_word = rows.data * logsumexp(
        log_share[text] + np.log(topics[:, word].T), axis=1
    )
    divergence = (
        gammaln(total[:, 0])
        - gammaln(posterior).sum(axis=1)
        + n_topics * gammaln(prior)
    )
    divergence += ((posterior - prior) * log_share).sum(axis=1)
    return np.bincount(text, of_word, minlength=len(posterior)) - divergence


def perplexity(log_likelihood):
    """How many equally likely words there seem to be at each place."""
    return np.exp(-log_likelihood / X_test.sum())


classifier = make_pipeline(
    StandardScaler(), LogisticRegression(max_iter=2000)
)
frequency = np.asarray(X.sum(axis=0)).ravel() + 0.1
likelihood_of = {
    "each word by its frequency": (
        X_test @ np.log(frequency / frequency.sum())
    ).sum(),
    "LDA": lda_bound(X_test).sum(),
    "skae": vae.score_samples(X_test).sum(),
}
codes_of = {
    "LDA": (lda.transform(X), lda.transform(X_test)),
    "TruncatedSVD": (
        svd.transform(tfidf.transform(X)),
        svd.transform(tfidf.transform(X_test)),
    ),
    "skae": (vae.transform(X), vae.transform(X_test)),
}
accuracy_of = {
    name: classifier.fit(codes, y).score(codes_test, y_test)
    for name, (codes, codes_test) in codes_of.items()
}
print(
    f"{'on held-out files':<28}{'perplexity':>12}"
    f"{'accuracy of a linear classifier':>34}"
)
perplexity_of = {
    name: perplexity(value) for name, value in likelihood_of.items()
}
for name in ("each word by its frequency", "LDA", "TruncatedSVD", "skae"):
    left = f"{perplexity_of[name]:.0f}" if name in perplexity_of else "-"
    right = f"{accuracy_of[name]:.3f}" if name in accuracy_of else "-"
    print(f"{name:<28}{left:>12}{right:>34}")
print(
    "(LDA.perplexity, which charges for the topics as well: "
    f"{lda.perplexity(X_test):.0f})"
)

# What a latent does to a word: the logarithm of its share at +1 over that
# at -1.
ends = [vae.inverse_transform(sign * np.eye(n_topics)) for sign in (1, -1)]
effect = np.log(ends[0] / ends[1])
common = np.flatnonzero(frequency >= 60)
print("\nwhat the three latents that say most about a text tell apart")
strongest = np.argsort(-vae.kl_)[:3]
sides = {}
for latent in strongest:
    order = common[np.argsort(effect[latent, common])]
    sides[latent] = np.concatenate([order[:7], order[-7:]])
    print(
        f"  {', '.join(words[order[:7]])}",
        f" |  {', '.join(words[order[:-8:-1]])}",
    )

print("\nmade-up texts: the words that stand out in each")
new = vae.sample(4, random_state=0)  # CSR, whole numbers
made_up = []
for row in range(4):
    counts = new[[row]].toarray()[0]
    expected = counts.sum() * frequency / frequency.sum()
    top = np.argsort(-counts * np.log((counts + 1e-9) / expected))[:9]
    listed = ", ".join(
        f"{words[j]} {counts[j]}" if counts[j] > 1 else words[j]
        for j in top
    )
    made_up.append(f"{counts.sum()} words: {listed}, ...")
    print(f"  {made_up[-1]}")

plt.rcParams.update(
    {"axes.spines.top": False, "axes.spines.right": False, "font.size": 10}
)
figure = plt.figure(figsize=(13.5, 6), layout="constrained")
above, below = figure.subfigures(2, 1, height_ratios=[3.6, 1])
places = above.subplots(1, 5, width_ratios=[1, 1, 1.1, 1.1, 1.1])
colours = {"skae": "#0072B2", "LDA": "#E69F00", "TruncatedSVD": "#009E73"}
for place, title, values in (
    (
        places[0],
        "Perplexity of held-out texts\n(lower is better)",
        perplexity_of,
    ),
    (
        places[1],
        "Package told by 20 numbers\n(accuracy, held-out texts)",
        accuracy_of,
    ),
):
    names = list(values)
    bars = place.bar(
        [
            "frequency"
            if "frequency" in name
            else name.removeprefix("Truncated")
            for name in names
        ],
        list(values.values()),
        color=[colours.get(name, "#999999") for name in names],
    )
    place.bar_label(bars, fmt="%.0f" if place is places[0] else "%.2f")
    place.set_title(title, fontsize=10)
    place.tick_params(axis="x", labelsize=8)
for place, (latent, chosen) in zip(places[2:], sides.items(), strict=True):
    values = effect[latent, chosen]
    place.barh(
        words[chosen],
        values,
        color=np.where(values > 0, "#D55E00", "#56B4E9"),
    )
    place.axvline(0, color="#444444", linewidth=0.8)
    place.set_title(
        f"Latent {latent}: {vae.kl_[latent]:.1f} nats a text", fontsize=10
    )
    place.set_xlabel("log ratio of a word's share")
    place.tick_params(axis="y", length=0)
text = below.subplots()
text.axis("off")
text.set_title(
    "Made-up texts, sample(): the words that stand out in each",
    loc="left",
    fontsize=10,
)
for line, listed in enumerate(made_up):
    text.text(
        0,
        0.95 - line / 4,
        listed,
        va="top",
        fontsize=9.5,
        transform=text.transAxes,
    )

pictures.save(figure, "text")

# The VAE predicts the words of new texts far better than LDA with as many
# numbers a text, and its codes are as good for the classifier as
# TruncatedSVD of TF-IDF, which is there in a moment but has no likelihood
# and no new rows. For features alone there is ``AutoencoderTransformer`` on
# TF-IDF (the quickstart). Latents
# have two ends, each with words that go together; unlike topics they may be
# below zero, and share words. Made-up texts have the lengths of real ones
# and whole counts of words; a text of 40 words says little, so it takes a
# longer one to see what it would be about.
