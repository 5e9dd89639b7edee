"""Two sparse tables that are made up: lines of a log, and counts of cells.

Not an example but what several of them load.
"""

import numpy as np
import scipy.sparse as sp

N_FIELDS, N_VALUES, N_SERVICES = 12, 40, 8


def log_lines(n_train, n_test, n_odd=50, n_wrong=2):
    """Draw lines of a log as one-hot columns: 12 fields of 40 values each.

    Each line is written by one of eight services, and a service uses three
    values of a field. In the odd lines ``n_wrong`` fields hold values that
    *another* service uses. Every value is common, so counting values finds
    nothing; what is odd is how they go together.

    Returns
    -------
    train, test : csr_array
    is_odd : ndarray of bool, one for each test line
    names : list of str, one for each column
    """
    rng = np.random.RandomState(0)
    train = _fields(rng, rng.randint(N_SERVICES, size=n_train))
    service = rng.randint(N_SERVICES, size=n_test)
    test = _fields(rng, service)
    for line in range(n_odd):
        other = (service[line] + rng.randint(1, N_SERVICES)) % N_SERVICES
        wrong = rng.choice(N_FIELDS, n_wrong, replace=False)
        test[line, wrong] = _fields(rng, np.array([other]))[0, wrong]
    names = [
        f"field {f} = {v}" for f in range(N_FIELDS) for v in range(N_VALUES)
    ]
    return _one_hot(train), _one_hot(test), np.arange(n_test) < n_odd, names


def _fields(rng, service):
    """Return values of the fields: three of each belong to a service."""
    first = 5 * ((service[:, None] + np.arange(N_FIELDS)) % N_SERVICES)
    return first + rng.randint(3, size=(len(service), N_FIELDS))


def _one_hot(values):
    """Return CSR rows with one entry for each field."""
    columns = (values + N_VALUES * np.arange(N_FIELDS)).ravel()
    starts = np.arange(0, len(columns) + 1, N_FIELDS)
    shape = (len(values), N_FIELDS * N_VALUES)
    return sp.csr_array(
        (np.ones(len(columns)), columns, starts), shape=shape
    )


def cells(n_train, n_test, n_genes=600, n_types=6):
    """Draw counts as those of single cells, in CSR: three quarters zeros.

    Six types of cells, each with genes of its own; cells are sequenced to
    very different depths; counts of a gene vary more than chance alone
    would have it; and a tenth of them are lost on the way.

    Returns
    -------
    train, test : csr_array of whole numbers
    """
    rng = np.random.default_rng(0)
    n_cells = n_train + n_test
    activity = rng.gamma(0.4, size=n_genes)
    activity = activity * rng.lognormal(0, 0.3, size=(n_types, n_genes))
    markers = rng.random((n_types, n_genes)) < 0.06
    activity[markers] *= rng.lognormal(2, 0.5, size=markers.sum())
    activity /= activity.sum(axis=1, keepdims=True)
    shares = np.arange(n_types, 0, -1) ** 1.0
    kind = rng.choice(n_types, n_cells, p=shares / shares.sum())
    depth = rng.lognormal(np.log(500), 0.5, size=(n_cells, 1))
    # The variance of a gene is mean + mean**2 / dispersion.
    dispersion = rng.lognormal(0, 0.7, size=n_genes)
    rate = rng.gamma(dispersion, 1 / dispersion, size=(n_cells, n_genes))
    molecules = rng.poisson(rate * depth * activity[kind])
    lost = rng.random(molecules.shape) < 0.1
    counts = sp.csr_array(np.where(lost, 0, molecules)).astype(np.float64)
    return counts[:n_train], counts[n_train:]
