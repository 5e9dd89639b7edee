"""One row, however it is given."""

from __future__ import annotations

import numpy as np
import pandas as pd
import scipy.sparse as sp


def one_row(x):
    """Return a table of one row: an array, a DataFrame or a sparse matrix."""
    if sp.issparse(x) or isinstance(x, pd.DataFrame):
        rows = x
    elif isinstance(x, pd.Series):
        rows = x.to_frame().T
    else:
        rows = np.atleast_2d(np.asarray(x))
    if rows.shape[0] != 1:
        raise ValueError(f"explain takes one row. Got {rows.shape[0]} rows instead.")
    return rows
