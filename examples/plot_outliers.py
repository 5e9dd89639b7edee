"""
Odd rows of a wide sparse table, and why they are odd
=====================================================

A table of 5,000 log lines as one-hot columns: 12 fields with 40 values each. Fields go together:
each line is written by one of eight services, and a service uses three values of a field. In the
odd lines three fields hold values that *another* service uses. Every value is common, so counting
values finds nothing; what is odd is how they go together.
"""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import scipy.sparse as sp
from sklearn.metrics import roc_auc_score

from skae import AutoencoderOutlierDetector

N_FIELDS, N_VALUES, N_SERVICES = 12, 40, 8
rng = np.random.RandomState(0)


def lines(n, service):
    """Return the value of each field: three of them belong to each service."""
    first = 5 * ((service[:, None] + np.arange(N_FIELDS)) % N_SERVICES)
    return first + rng.randint(3, size=(n, N_FIELDS))


def one_hot(values):
    """Return CSR rows with one entry for each field."""
    n = len(values)
    columns = (values + N_VALUES * np.arange(N_FIELDS)).ravel()
    rows = np.arange(n).repeat(N_FIELDS)
    shape = (n, N_FIELDS * N_VALUES)
    return sp.csr_array((np.ones(len(rows)), (rows, columns)), shape=shape)


train = lines(4000, rng.randint(N_SERVICES, size=4000))
service = rng.randint(N_SERVICES, size=1000)
test = lines(1000, service)
odd = np.arange(1000) < 50
for line in range(50):
    fields = rng.choice(N_FIELDS, 3, replace=False)
    strange = lines(1, np.array([(service[line] + rng.randint(1, N_SERVICES)) % N_SERVICES]))[0]
    test[line, fields] = strange[fields]

# %%
# Fit on lines that are taken to be normal. Nothing is made dense but one block of rows at a time.
X, Z = one_hot(train), one_hot(test)
detector = AutoencoderOutlierDetector(fdr=0.1, random_state=0).fit(X)
scores = detector.score_samples(Z)
print(f"area under the ROC curve: {roc_auc_score(odd, -scores):.3f}")

alarm = detector.predict(Z) == -1
print(f"alarms: {alarm.sum()}, false ones: {(alarm & ~odd).sum()} (promised on average: 10 %)")

# %%
# Why is the oddest line odd? Three fields stand out. A column that the line *does not* use may be a
# reason as well: it was expected.
worst = int(np.argmin(np.where(odd, scores, 0)))
reasons = detector.explain(Z[[worst]], n_reasons=6)
names = [f"field {int(f[1:]) // N_VALUES} = {int(f[1:]) % N_VALUES}" for f in reasons["feature"]]
print(reasons.assign(feature=names).to_string(index=False))

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
bins = np.linspace(np.log10(-scores).min(), np.log10(-scores).max(), 40)
left.hist(np.log10(-scores[~odd]), bins, label="normal lines", color="tab:blue")
left.hist(np.log10(-scores[odd]), bins, label="odd lines", color="tab:orange", alpha=0.8)
limit = np.log10(-scores[alarm].max())
left.axvline(limit, color="black", linestyle=":", label="alarms to the right (FDR 10 %)")
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
output = Path(__file__).parent / "output"
output.mkdir(exist_ok=True)
figure.savefig(output / "plot_outliers.png", dpi=110)
