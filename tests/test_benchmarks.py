"""Every benchmark says what it asks, is listed and starts; what they share is right."""

import ast
import os
import runpy
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = ROOT / "benchmarks"
SCRIPTS = sorted(BENCHMARKS.glob("*.py"))


@pytest.fixture(autouse=True)
def beside_the_scripts(monkeypatch):
    """A script finds the packages beside it, as Python has it that is started with the script."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def run(monkeypatch, path, *arguments):
    monkeypatch.setattr(sys, "argv", [str(path), *map(str, arguments)])
    return runpy.run_path(str(path), run_name="__main__")


def test_the_benchmarks_are_found():
    assert len(SCRIPTS) >= 9


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_benchmark_opens_with_its_question_and_is_listed(path):
    question, *_ = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))).splitlines()
    assert "?" in question
    assert f"`{path.name}" in (BENCHMARKS / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_benchmark_starts_and_prints_its_text(path, monkeypatch, capsys):
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, path, "--help")
    assert ended.value.code == 0
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    printed = capsys.readouterr().out
    assert text in printed
    assert "--help" in printed


def test_a_benchmark_starts_from_the_root_of_a_clone():
    command = [sys.executable, "benchmarks/first_fit.py", "--help"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert "What does the first fit" in ended.stdout


def test_a_folder_that_does_not_exist_is_an_error_that_names_it(monkeypatch, capsys):
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, BENCHMARKS / "anomaly.py", "nowhere")
    assert ended.value.code == 2
    assert "there is no folder 'nowhere'" in capsys.readouterr().err


def test_sides_take_turns_and_the_first_round_is_thrown_away():
    from harness.timing import in_turns

    order = []

    def side(name):
        order.append(name)
        return len(order)

    found = in_turns({name: partial(side, name) for name in "ab"}, rounds=2)
    assert "".join(order) == "ababab"
    assert {name: values.tolist() for name, values in found.items()} == {"a": [3, 5], "b": [4, 6]}


def test_ratios_are_taken_within_a_round():
    from harness.timing import ratio

    # The machine was ten times slower in the last round: no matter.
    assert ratio([2.0, 3.0, 40.0], [1.0, 2.0, 20.0]) == (2.0, 1.5, 2.0)


def test_paired_differences_have_the_standard_error_of_their_mean():
    from harness.report import paired

    found = paired([3.0, 1.0, 5.0, 7.0], [2.0, 1.0, 6.0, 3.0], margin=0.5)
    difference = np.array([1.0, 0.0, -1.0, 4.0])
    assert found.mean == 1.0
    np.testing.assert_allclose(found.error, np.sqrt(difference.var(ddof=1) / 4))
    assert (found.won, found.lost) == (2, 1)
    assert np.isnan(paired([1.0], [0.0]).error)


def test_table_aligns_cells_below_their_heads(capsys):
    from harness.report import Table

    table = Table("set", {"score": ".2f", "a long head": "d"}, title_width=5)
    table.row("wine", [1.234, None])
    table.row(150, [np.nan, 12])
    assert capsys.readouterr().out.splitlines() == [
        "set     score  a long head",
        "wine     1.23            -",
        "150         -           12",
    ]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_processor_time_of_an_epoch_is_what_the_history_says():
    from harness.timing import epoch_seconds
    from skae import AutoencoderTransformer

    ticks = iter(np.arange(100.0))
    estimator = AutoencoderTransformer(2, max_iter=1)
    X = np.random.RandomState(0).normal(size=(40, 4))
    # The clock is read twice, before and after the epoch.
    assert epoch_seconds(estimator, X, lambda: next(ticks)) == 1.0
    assert next(ticks) == 2.0


def test_peak_of_memory_sees_what_was_freed_again():
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("the kernel keeps the peak on Linux alone")
    from harness.memory import PeakMemory

    with PeakMemory() as peak:
        np.ones(40 * 2**17).sum()  # 40 MiB
    assert 38 < peak.mib < 60


@pytest.fixture
def folder(tmp_path):
    """Return a folder with a set of each kind of files."""
    rng = np.random.RandomState(0)
    X, y, group = rng.normal(size=(60, 3)), np.arange(60) % 3, np.arange(60) // 6
    np.savez(tmp_path / "dense.npz", X=X, y=y)
    np.savez(tmp_path / "grouped.npz", X=X.astype(np.uint8), y=y, group=group)
    np.savez(tmp_path / "odd.npz", X=X, y=(y == 0)[:, None])
    np.savez(tmp_path / "parted.npz", X_train=X[:40], X_test=X[40:], y_train=y[:40], y_test=y[40:])
    counts = sp.random_array((30, 20), density=0.2, rng=rng, format="csr", dtype=np.float32)
    counts.data = np.ceil(np.abs(counts.data))
    sp.save_npz(tmp_path / "words_X.npz", counts)
    np.savez(tmp_path / "words_y.npz", y=np.arange(30) % 2, vocabulary=np.array(["a"] * 20))
    cells = sp.csr_matrix(rng.poisson(0.4, size=(50, 30)))
    sp.save_npz(tmp_path / "worm_neuron_counts_X.npz", cells)
    sp.save_npz(tmp_path / "official_X_train.npz", counts[:20])
    sp.save_npz(tmp_path / "official_X_test.npz", counts[20:])
    np.savez(tmp_path / "official_y.npz", y_train=np.arange(20), y_test=np.arange(20, 30))
    return tmp_path


SMALL = {
    "sparse_scaling": "--widths 600 800 --most-dense 600 --reference 600 --rounds 1 --steps 2",
    "score_points": "FOLDER/worm_neuron_counts_X.npz --columns 15 --components 2 --rows 30",
    "anomaly": "FOLDER --only odd --seeds 1",
    "sparse_quality": "FOLDER counts",
    "features": "FOLDER --sets wine words --sizes 2 --seeds 1",
    "hidden_entries": "--kinds topics --rows 1000 --sides PCA NMF",
    "held_out_score": "FOLDER --tables wine dense --seeds 1",
    "latent_size": "--kinds topics --rows 1000",
    "ksparse": "FOLDER --set digits --seeds 1 --rows 300 --units 20 --active 3",
    "stacks": "FOLDER dense --seeds 1 --seconds 0.2 --sizes 3 2 --hidden 8 8",
}


@pytest.mark.slow  # trainings with default settings
@pytest.mark.parametrize("name", SMALL)
def test_benchmark_prints_a_table_of_small_data(name, folder, monkeypatch, capsys):
    monkeypatch.setattr("harness.command.set_threads", lambda n_threads: None)  # would stay set
    arguments = SMALL[name].replace("FOLDER", str(folder)).split()
    run(monkeypatch, BENCHMARKS / f"{name}.py", *arguments)
    assert len(capsys.readouterr().out.splitlines()) >= 4


@pytest.mark.parametrize("name", ["dense", "grouped", "parted", "words", "official"])
def test_each_kind_of_files_is_split_into_rows_that_go_with_their_labels(name, folder):
    from harness import data

    found = data.load(folder, name)
    train, test = data.split(found, seed=1)
    assert train.test is None
    for part in (train, test):
        assert part.X.dtype == np.float64
        assert part.X.shape[0] == len(part.y)
    assert sp.issparse(train.X) == (name in ("words", "official"))
    assert train.X.shape[0] + test.X.shape[0] == (30 if sp.issparse(train.X) else 60)


def test_split_keeps_the_source_s_rows_then_groups_then_classes(folder):
    from harness import data

    official = data.split(data.load(folder, "official"))
    assert official[0].y.tolist() == list(range(20))
    assert official[1].y.tolist() == list(range(20, 30))
    train, test = data.split(data.load(folder, "grouped"))
    assert not set(train.group) & set(test.group)
    train, test = data.split(data.load(folder, "dense"))
    assert np.bincount(train.y).tolist() == [14, 14, 14]
    train, test = data.split(data.of_sklearn("diabetes"), seed=3)  # y is no class
    again, _ = data.split(data.of_sklearn("diabetes"), seed=3)
    assert np.array_equal(train.X, again.X)


def test_anomalies_are_files_with_two_labels(folder):
    from harness import data

    found = {path.stem: data.anomalies(path) for path in data.files([folder])}
    assert [name for name, each in found.items() if each is not None] == ["odd"]
    assert found["odd"].y.tolist() == [1, 0, 0] * 20


def test_tables_of_known_size_are_of_the_kinds_that_they_say():
    from harness import sized_tables

    found = sized_tables.tables(0)
    assert len({table.name for table in found}) == len(found) == 40
    kinds = [table.kind for table in found]
    assert [kinds.count(kind) for kind in dict.fromkeys(kinds)] == [12, 12, 8, 4, 4]
    for kind, (least, most) in {**sized_tables.SHARES, "linear": (0.9, 1.0)}.items():
        table = next(each for each in found if each.kind == kind)
        assert table.X.shape == (table.n_rows, table.n_columns)
        np.testing.assert_allclose(table.X.mean(axis=0), 0.0, atol=0.2)
        share = sized_tables.share_of_first(table.X, table.k)
        assert least - 0.07 < share < most + 0.01  # with noise, at most a tenth of the variance


def test_another_seed_base_has_other_tables_and_the_same_one_the_same():
    from harness import sized_tables

    first, again, twin = (sized_tables.tables(base, kinds=["linear"]) for base in (0, 0, 1))
    assert np.array_equal(first[0].X, again[0].X)
    assert not np.array_equal(first[0].X[:5, :5], twin[0].X[:5, :5])
    assert sorted(table.k for table in twin) == sorted(table.k for table in first)


def test_a_set_that_is_not_there_is_an_error_that_names_it(folder):
    from harness import data

    with pytest.raises(FileNotFoundError, match="no rows of 'none' in "):
        data.load(folder, "none")


def test_counts_over_orders_of_magnitude_are_given_as_logarithms(tmp_path):
    from harness import data

    X = np.arange(12.0).reshape(4, 3)
    np.savez(tmp_path / "file_bytes.npz", X=X)
    np.testing.assert_array_equal(data.of(tmp_path, "file_bytes").X, np.log1p(X))
    np.testing.assert_array_equal(data.load(tmp_path, "file_bytes").X, X)


@pytest.mark.slow  # parses the sources of five packages
def test_docstrings_are_a_set_like_others(tmp_path):
    from harness import data

    found = data.of(tmp_path, "docstrings")
    assert sp.issparse(found.X)
    assert len(found.y) == len(found.group) == found.X.shape[0]


def test_rows_are_drawn_where_there_are_more():
    from harness import data

    found = data.of_sklearn("wine")
    drawn = data.at_most(found, 50, seed=1)
    assert len(drawn.X) == len(drawn.y) == 50
    assert not np.array_equal(drawn.X, data.at_most(found, 50, seed=2).X)
    assert data.at_most(found, 500) is data.at_most(found, None) is found


def test_codes_of_one_scale_keep_their_proportions():
    from harness.features import OneScale

    X = np.random.RandomState(0).normal(size=(200, 2)) * [1.0, 7.0] + 5.0
    scaled = OneScale().fit(X).transform(X)
    np.testing.assert_allclose(np.square(scaled).mean(), 1.0)
    np.testing.assert_allclose(scaled.mean(axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose(*(each.std(axis=0)[1] / each.std(axis=0)[0] for each in (scaled, X)))


def test_features_of_a_method_in_the_place_of_ours(folder, capsys):
    import features
    from harness.features import OF_DENSE

    class Labels:  # the best features that there are: what is asked for
        def fit(self, X):
            return self

        def transform(self, X):
            return np.sign(np.subtract.outer(X[:, 0], [0.5, 1.5]))

    X = np.repeat([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]], 20, axis=0)
    X = np.hstack([X, np.random.RandomState(0).normal(size=(60, 2))])
    np.savez(folder / "levels.npz", X=X, y=X[:, 0].astype(int))
    ours = {"labels": lambda k, seed: Labels(), "again": OF_DENSE["PCA"]}
    cuts = {"levels": features.Cut(train=30)}
    (cell,) = features.compare(folder, ours, cuts=cuts, sizes=[16], n_seeds=2)
    assert (cell.size, cell.sparse) == (2, False)  # half of the columns
    assert cell.ours["labels"][:, :3].tolist() == [[1.0] * 3] * 2
    assert (cell.gains("labels") >= 0.0).all()
    assert (cell.gains("again") == 0.0).all()
    assert "1.000 / 1.000 / 1.000" in capsys.readouterr().out


def test_gains_are_over_the_best_simple_method_of_each_accuracy():
    from features import Cell

    ours = {"ours": np.array([[0.9, 0.5, 0.5, 1.0], [0.7, 0.5, 0.5, 1.0]])}
    simple = {  # the first is better by LR, and the second by the others, though not in each seed
        "a": np.array([[0.8, 0.1, 0.1, 1.0], [0.8, 0.4, 0.1, 1.0]]),
        "b": np.array([[0.1, 0.4, 0.2, 1.0], [0.1, 0.3, 0.2, 1.0]]),
    }
    gains = Cell("set", 2, True, ours, simple).gains("ours")
    np.testing.assert_allclose(gains, [[0.1, 0.1, 0.3], [-0.1, 0.2, 0.3]])


def test_columns_of_texts_are_chosen_and_weighted_by_training_rows(folder):
    import features
    from harness import data

    found = data.of(folder, "words")
    (train, _), (test, _) = features.draw(found, features.Cut(columns=5), seed=0)
    used = data.most_used(data.split(found, 0)[0].X, 5)
    counts = data.split(found, 0)[0].X[:, used]
    assert train.shape[1] == test.shape[1] == 5
    assert ((train > 0) != (counts > 0)).nnz == 0


class Normal:
    """One normal density for all columns, whose scores a test can work out; more is no better."""

    def __init__(self, k, seed):
        self.loss = np.log2(k)

    def fit(self, X):
        assert np.allclose(X.std(axis=0), 1.0)
        return self

    def score(self, X):
        return -0.5 * (np.log(2 * np.pi) + X**2).sum(axis=1).mean() - self.loss


def test_held_out_scores_of_a_model_in_the_place_of_ours(tmp_path, capsys):
    import held_out_score

    X = np.random.RandomState(0).normal(size=(400, 16))
    X[:, 3] = 0.0
    X[0, 4], X[1:, 4] = 1.0, 0.0  # constant in one of the halves
    np.savez(tmp_path / "noise.npz", X=X)
    verdicts = held_out_score.compare(tmp_path, Normal, names=["noise"], n_seeds=2)
    verdict = verdicts["noise"]
    # Columns have nothing in common: any factor is one too many, of which we take the fewest.
    assert 0.0 < verdict.gain < 0.1
    out = capsys.readouterr().out
    assert "better than both: 1 of 1" in out
    assert "at most 0.02 nats a column: 0 of 1" in out
    # Best at 1 component, of 14 or 15 columns: four cost 2 nats.
    np.testing.assert_allclose(verdict.cost, 2.0 * (1 / 14 + 1 / 15) / 2)


def test_halves_are_standardised_by_the_training_half_without_its_constant_columns():
    import held_out_score

    X = np.random.RandomState(0).normal(2.0, 5.0, size=(40, 4))
    X[:, 1] = 3.0
    X[1:, 2] = 0.0  # one row alone tells anything, which is in one half
    first, second = held_out_score.halves(X, n_seeds=1)
    assert sorted([first.train.shape, second.train.shape]) == [(20, 2), (20, 3)]
    for half in (first, second):
        assert half.test.shape == half.train.shape
        np.testing.assert_allclose(half.train.mean(axis=0), 0.0, atol=1e-12)
        np.testing.assert_allclose(half.train.std(axis=0), 1.0)


def test_tables_are_found_by_pattern_and_without_anomalies(folder):
    import held_out_score

    found = dict(held_out_score.tables(folder, ["wine", "od*", "dense"]))
    assert {name: len(X) for name, X in found.items()} == {"wine": 178, "odd": 40, "dense": 60}
    with pytest.raises(FileNotFoundError, match="no table 'nothing'"):
        dict(held_out_score.tables(folder, ["nothing"]))


def test_neighbours_of_training_rows_leave_out_the_row_itself():
    from harness.detectors import Neighbours

    X = np.array([[0.0], [1.0], [3.0]])
    detector = Neighbours(1).fit(X)
    assert detector.score_samples(X).tolist() == [-1.0, -1.0, -2.0]
    assert detector.score_samples(X.copy()).tolist() == [0.0, 0.0, 0.0]


def test_simple_estimates_of_a_dimension_are_right_where_they_should_be():
    from harness.dimensions import parallel_analysis, pca_95, two_nn

    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.normal(size=(12, 3)))[0]
    clean = rng.normal(size=(800, 3)) @ axes.T
    noisy = clean + 0.05 * rng.normal(size=clean.shape)
    assert parallel_analysis(noisy) == parallel_analysis(noisy[::-1, ::-1]) == 3
    assert pca_95(clean) == 3
    assert two_nn(clean) == 3
    assert two_nn(noisy) > 3  # neighbours are near each other by noise
    assert two_nn(np.repeat(clean, 2, axis=0)) == 3  # rows that are alike say nothing
    assert parallel_analysis(rng.normal(size=(800, 12))) <= 6


def test_a_grid_takes_the_smallest_size_within_a_standard_error_of_the_best():
    from latent_size import Grid

    lost = np.random.RandomState(0).normal(size=400)
    lost = (lost - lost.mean()) / lost.std()  # with a standard error of 0.05
    scores = (
        np.stack([0.06 * np.ones(400), 0.04 * np.ones(400), 0 * lost])
        + [[1.0], [1.0], [0.0]] * lost
    )
    grid = Grid([2, 3, 4], -scores, seconds=1.0)
    assert (grid.sizes[grid.best], grid.smallest_as_good()) == (4, 3)


@pytest.mark.slow  # trainings with default settings
def test_auto_stands_beside_a_grid_on_a_real_table(tmp_path, capsys):
    import latent_size

    gains = latent_size.compare_real(
        tmp_path, ["wine"], n_seeds=1, sizes=(13,)
    )  # "auto" finds fewer
    gain, *errors = gains["wine"]
    printed = capsys.readouterr().out
    for error, of in zip(errors, ("difference", "best score"), strict=True):
        assert error > 0.0
        assert f"of the {of}: {int(gain >= -error)} of 1" in printed


def test_columns_of_real_tables_are_standardised_or_the_most_used(tmp_path):
    import latent_size

    train, test = latent_size.rows_of(tmp_path, "wine", seed=0)
    np.testing.assert_allclose(train.std(axis=0), 1.0)
    assert len(train) + len(test) == 178
    counts = sp.random_array((40, 300), density=0.2, rng=np.random.default_rng(0), format="csr")
    counts.data = np.ones_like(counts.data)
    sp.save_npz(tmp_path / "worm_neuron_counts_X.npz", counts)
    train, test = latent_size.rows_of(tmp_path, "worm_neuron_counts", seed=0)
    assert train.shape[1] == test.shape[1] == latent_size.N_GENES
