"""What tests of pictures share: rows, and how to read what was drawn."""

import pandas as pd
import pytest

from tests.helpers import low_rank

plt = pytest.importorskip("matplotlib.pyplot")

X = low_rank(n_rows=60, n_features=6)
FRAME = pd.DataFrame(X, columns=list("abcdef"))


@pytest.fixture(autouse=True)
def no_figures():
    """Draw to files, and leave no figure to other tests."""
    plt.switch_backend("Agg")
    plt.close("all")
    yield
    plt.close("all")


def legend(display):
    found = display.ax_.get_legend()
    return [] if found is None else [text.get_text() for text in found.get_texts()]


def ticks(axis):
    return [label.get_text() for label in axis.get_ticklabels()]
