"""Real data sets: found in a folder by name, or scikit-learn's; and how they are split.

A set NAME is in files without pickles:

- dense: ``NAME.npz`` with arrays ``X`` or, split by its source, ``X_train`` and ``X_test``;
- sparse: CSR matrices of `scipy.sparse.save_npz`, ``NAME_X.npz`` or ``NAME_X_train.npz`` and
  ``NAME_X_test.npz``;
- labels: ``y`` or ``y_train`` and ``y_test``, and ``group`` where rows of one source are alike,
  with the dense arrays or in ``NAME_y.npz``.
"""

import importlib.util
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn import datasets
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.model_selection import GroupShuffleSplit, train_test_split

#: Sets that come with scikit-learn, by name.
SKLEARN = {
    "wine": datasets.load_wine,
    "breast_cancer": datasets.load_breast_cancer,
    "digits": datasets.load_digits,
    "diabetes": datasets.load_diabetes,
}
LOGARITHMS = {"file_bytes"}  # counts over orders of magnitude, which `of` gives as log(1 + x)
DOCSTRINGS = "docstrings"  # the set of examples/docstrings.py: texts that every machine has

_ARRAYS = ("X", "X_train", "X_test", "y", "y_train", "y_test", "group")


@dataclass(frozen=True)
class DataSet:
    """Rows in float64, dense or CSR, and what is known of them."""

    name: str
    X: Any
    y: np.ndarray | None = None
    group: np.ndarray | None = None
    test: "DataSet | None" = None  # the test rows, where the source has them apart

    def take(self, rows):
        """Return some of the rows, by place or by mask."""
        parts = {part: getattr(self, part) for part in ("X", "y", "group")}
        taken = {part: values[rows] for part, values in parts.items() if values is not None}
        return replace(self, **taken)


def of_sklearn(name):
    """Return a set that comes with scikit-learn, by its name in `SKLEARN`."""
    X, y = SKLEARN[name](return_X_y=True)
    return DataSet(name, X, y)


@cache
def of_docstrings():
    """Return word counts of the docstrings of five packages; a group is a source file."""
    path = Path(__file__).resolve().parents[2] / "examples" / "docstrings.py"
    spec = importlib.util.spec_from_file_location(DOCSTRINGS, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = module.load_docstrings()
    counts = CountVectorizer(stop_words="english", dtype=np.float64).fit_transform(found.data)
    return DataSet(DOCSTRINGS, sp.csr_array(counts), found.target, found.filenames)


def of(folder, name):
    """Return the set of that name: scikit-learn's, the docstrings, or one in the folder."""
    if name in SKLEARN:
        return of_sklearn(name)
    if name == DOCSTRINGS:
        return of_docstrings()
    found = load(folder, name)
    return replace(found, X=np.log1p(found.X)) if name in LOGARITHMS else found


def load(folder, name):
    """Return the set of that name in a folder; the text of this file says in which files it is."""
    if (path := folder / f"{name}.npz").exists():
        found = _arrays(path)
    else:
        parts = ("X", "X_train", "X_test")
        paths = {part: folder / f"{name}_{part}.npz" for part in parts}
        found = {part: csr_rows(path) for part, path in paths.items() if path.exists()}
        if (path := folder / f"{name}_y.npz").exists():
            found |= _arrays(path)
    if "X_train" in found and "X_test" in found:
        test = DataSet(name, found["X_test"], found.get("y_test"))
        return DataSet(name, found["X_train"], found.get("y_train"), test=test)
    if "X" not in found:
        raise FileNotFoundError(
            f"Found no rows of {name!r} in {folder}: neither {name}.npz nor {name}_X.npz nor "
            f"{name}_X_train.npz with {name}_X_test.npz."
        )
    return DataSet(name, found["X"], found.get("y"), found.get("group"))


def csr_rows(path):
    """Return the CSR matrix in a file of `scipy.sparse.save_npz`; None where it is another file."""
    with np.load(path) as file:
        if "indptr" not in file:
            return None
    return sp.csr_array(sp.load_npz(path)).astype(np.float64)


def _arrays(path):
    """Return the arrays of a file that are known by name, tables in float64."""
    with np.load(path) as file:
        parts = {name: file[name] for name in file if name in _ARRAYS}
    return {k: part.astype(np.float64) if k[0] == "X" else part for k, part in parts.items()}


def files(folders, only=None):
    """Return the npz files of folders, sorted by path; with `only`, those of these names."""
    paths = sorted(path for folder in folders for path in folder.glob("*.npz"))
    return [path for path in paths if not only or path.stem in only]


def anomalies(path):
    """Return the set in a file, y = 1 for an anomaly, else 0; None where it has no such labels."""
    with np.load(path) as file:
        if not {"X", "y"} <= set(file) or not set(np.unique(file["y"])) <= {0, 1}:
            return None
        return DataSet(path.stem, file["X"].astype(np.float64), file["y"].astype(int).ravel())


def split(data, seed=0, test_size=0.3):
    """Return training and test rows of a set.

    They are those of its source, if it has them. Otherwise they are drawn: whole groups, if rows
    have groups; the same shares of each class, if y has few values; else any rows.
    """
    if data.test is not None:
        return replace(data, test=None), data.test
    places = np.arange(data.X.shape[0])
    if data.group is not None:
        draw = GroupShuffleSplit(1, test_size=test_size, random_state=seed)
        train, test = next(draw.split(places, groups=data.group))
    else:
        classes = data.y if data.y is not None and data.y.dtype.kind in "iubUS" else None
        train, test = train_test_split(
            places, test_size=test_size, random_state=seed, stratify=classes
        )
    return data.take(train), data.take(test)


def at_most(data, n_rows, seed=0):
    """Return a set with that many of its rows, drawn; the set itself where it has no more."""
    n = data.X.shape[0]
    if n_rows is None or n <= n_rows:
        return data
    return data.take(np.random.RandomState(seed).permutation(n)[:n_rows])


def most_used(X, n_columns):
    """Return the places of the columns with entries in most rows, in their order."""
    return np.sort(np.argsort(-(X > 0).sum(axis=0), kind="stable")[:n_columns])


def most_frequent(X, n_columns):
    """Return CSR rows, none of them empty, in the columns with entries in most rows."""
    return without_empty(X[:, most_used(X, n_columns)])


def without_empty(X):
    """Return the CSR rows that are not all zero."""
    return X[X.sum(axis=1) > 0]
