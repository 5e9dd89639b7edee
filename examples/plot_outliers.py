"""
Odd rows of a wide sparse table, and why they are odd
=====================================================

A table of 5,000 log lines as one-hot columns: 12 fields with 40 values
each. Fields go together: each line is written by one of eight services,
and a service uses three values of a field. In the odd lines three fields
hold values that *another* service uses. Every value is common, so counting
values finds nothing; what is odd is how they go together.
"""

import matplotlib.pyplot as plt
import numpy as np
import pictures
import tables
from sklearn.metrics import roc_auc_score

from skae import AutoencoderOutlierDetector

X, Z, odd, columns = tables.log_lines(4000, 1000, n_wrong=3)

# %%
# Fit on lines that are taken to be normal. Nothing is made dense but one
# block of rows at a time.
detector = AutoencoderOutlierDetector(fdr=0.1, random_state=0).fit(X)
scores = detector.score_samples(Z)
print(f"area under the ROC curve: {roc_auc_score(odd, -scores):.3f}")

alarm = detector.predict(Z) == -1
false = (alarm & ~odd).sum()
print(f"alarms: {alarm.sum()}, false: {false} (on average 10 % at most)")

# %%
# Why is the oddest line odd? Three fields stand out. A column that the line
# *does not* use may be a reason as well: it was expected.
worst = int(np.argmin(np.where(odd, scores, 0)))
reasons = detector.explain(Z[[worst]], n_reasons=6, feature_names=columns)
names = reasons["feature"].tolist()
print(reasons.to_string(index=False))

# %%
figure, (left, right) = plt.subplots(
    1, 2, figsize=(10, 4), layout="constrained"
)
bins = np.linspace(np.log10(-scores).min(), np.log10(-scores).max(), 40)
left.hist(
    np.log10(-scores[~odd]), bins, label="normal lines", color="tab:blue"
)
left.hist(
    np.log10(-scores[odd]),
    bins,
    label="odd lines",
    color="tab:orange",
    alpha=0.8,
)
limit = np.log10(-scores[alarm].max())
left.axvline(
    limit,
    color="black",
    linestyle=":",
    label="alarms to the right (FDR 10 %)",
)
left.set(
    xlabel="log10 of minus the score",
    ylabel="lines",
    title="Scores",
    yscale="log",
    ylim=(0.8, 3000),
)
left.legend()
present = np.where(reasons["value"] > 0, "tab:orange", "tab:gray")
right.barh(names[::-1], 100 * reasons["share"][::-1], color=present[::-1])
right.set(
    xlabel="share of the score, per cent",
    title="Reasons for the oddest line\n(grey: expected, but not there)",
)
pictures.save(figure, "outliers")
