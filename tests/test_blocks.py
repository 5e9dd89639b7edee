"""Are blocks of rows as large as the budget says, and does nobody see it in what comes out?"""

import ast

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn import config_context

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae._blocks import cell_budget, cells_per_row, row_blocks, rows_per_block, slices
from tests.helpers import QUICK, cells_at_once, low_rank, one_hot
from tests.test_architecture import FILES, read

pytestmark = pytest.mark.filterwarnings("ignore:Maximum iterations")


def test_working_memory_lowers_the_budget_and_never_raises_it():
    usual = cell_budget()
    with config_context(working_memory=10**6):
        assert cell_budget() == usual
    with config_context(working_memory=1):
        assert cell_budget() == 2**20 / 8 < usual
    with config_context(working_memory=0):
        assert cell_budget() == 1


@pytest.mark.parametrize("n_rows", [0, 1, 16, 17, 1000])
@pytest.mark.parametrize(("width", "multiple"), [(0, 1), (1, 1), (2.5, 1), (7, 16), (10**6, 32)])
def test_blocks_hold_each_row_once_and_no_more_than_the_budget(n_rows, width, multiple):
    with cells_at_once(700):
        blocks, most = list(row_blocks(n_rows, width, multiple)), rows_per_block(width, multiple)
    rows = [row for block in blocks for row in range(block.start, block.stop)]
    assert rows == list(range(n_rows))
    assert {block.stop - block.start for block in blocks[:-1]} <= {most}
    assert most % multiple == 0
    assert most == multiple or most * width <= 700
    assert (most + multiple) * max(1, width) > 700


def test_stored_entries_are_the_cells_of_csr():
    X = np.array([[0.0, 1.0, 2.0], [0.0, 0.0, 3.0]])
    assert cells_per_row(X) == 3
    assert cells_per_row(sp.csr_array(X)) == 1.5
    assert cells_per_row(sp.csr_array((0, 3))) == 0


def loops_by_hand(source):
    """Return the lines that count in steps, as a loop over blocks does."""
    calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    return [
        call.lineno
        for call in calls
        if getattr(call.func, "id", "") == "range" and len(call.args) == 3
    ]


# Blocks of a fixed shape, on which rounding depends, or of columns.
OF_FIXED_SHAPE = {"skae/_blocks.py", "skae/_training/inference.py"}


@pytest.mark.parametrize("path", [path for path in FILES if "/_kernels/" not in path])
def test_loops_over_blocks_stand_in_one_place(path):
    assert path in OF_FIXED_SHAPE or loops_by_hand(read(path)) == []


def test_checker_sees_a_loop_over_blocks():
    source = "for i in range(3): pass\nx = [a[i : i + 2] for i in range(0, 9, 2)]"
    assert loops_by_hand(source) == [2]
    assert [part.start for part in slices(9, 4)] == [0, 4, 8]


@pytest.mark.parametrize("as_format", [np.asarray, sp.csr_array])
def test_a_transformer_is_the_same_whatever_the_working_memory(as_format):
    X = as_format(low_rank())
    usual = AutoencoderTransformer(**QUICK).fit(X)
    with cells_at_once(64):
        other = AutoencoderTransformer(**QUICK).fit(X)
        np.testing.assert_allclose(other.transform(X), usual.transform(X), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(other.score_samples(X), usual.score_samples(X), rtol=1e-5)


@pytest.mark.parametrize("contamination", ["auto", 0.1])
@pytest.mark.parametrize("table", [low_rank(), sp.csr_array(one_hot(200))], ids=["dense", "csr"])
def test_a_detector_is_the_same_whatever_the_working_memory(table, contamination):
    network = AutoencoderTransformer(**QUICK)
    settings = {"contamination": contamination, "estimator": network, "random_state": 0}
    usual = AutoencoderOutlierDetector(**settings).fit(table)
    with cells_at_once(500):
        other = AutoencoderOutlierDetector(**settings).fit(table)
    np.testing.assert_allclose(other.offset_, usual.offset_, rtol=1e-5)
    scores = [each.score_samples(table) for each in (usual, other)]
    np.testing.assert_allclose(*scores, rtol=1e-5)
