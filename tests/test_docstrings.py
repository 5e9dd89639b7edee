"""Real text, found on the machine: what is in it, what is not, and that nothing is executed."""

import ast
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

PATH = Path(__file__).resolve().parents[1] / "examples" / "docstrings.py"
SPEC = importlib.util.spec_from_file_location("docstrings", PATH)
helper = importlib.util.module_from_spec(SPEC)  # what scripts beside it import
SPEC.loader.exec_module(helper)
PACKAGES, load_docstrings = helper.PACKAGES, helper.load_docstrings

SMALL = {"n_per_package": 12}


@pytest.fixture(scope="module")
def docstrings():
    return load_docstrings(**SMALL)


@pytest.fixture
def made_up_packages(tmp_path, monkeypatch):
    """Five packages of one folder each, to be filled with source files."""
    monkeypatch.syspath_prepend(tmp_path)
    names = tuple(f"made_up_{place}" for place in range(5))
    for name in names:
        (tmp_path / name).mkdir()
        source = f'"""The package {name} says {" ".join(name[-1] * 30)}."""'
        (tmp_path / name / "__init__.py").write_text(source)
    monkeypatch.setattr(helper, "PACKAGES", names)
    return tmp_path


def test_classes_are_balanced_and_in_random_order(docstrings):
    assert docstrings.target_names == list(PACKAGES)
    assert np.bincount(docstrings.target).tolist() == [12] * 5
    assert len(docstrings.data) == len(docstrings.filenames) == 60
    assert (np.diff(docstrings.target) < 0).any()


def test_texts_differ_and_are_long_enough(docstrings):
    assert len(set(docstrings.data)) == 60
    assert min(len(text.split()) for text in docstrings.data) >= 30
    longer = load_docstrings(n_per_package=2, min_words=150)
    assert min(len(text.split()) for text in longer.data) >= 150


def test_label_is_the_package_of_the_file(docstrings):
    first_folders = [name.split("/")[0] for name in docstrings.filenames]
    assert [docstrings.target_names[label] for label in docstrings.target] == first_folders
    assert not any("/tests/" in name for name in docstrings.filenames)


def test_seed_fixes_the_choice(docstrings):
    again = load_docstrings(**SMALL)
    assert again.data == docstrings.data
    assert (again.target == docstrings.target).all()
    assert load_docstrings(**SMALL, random_state=1).data != docstrings.data


def test_no_package_is_named(docstrings):
    names = {*PACKAGES, "np", "pd", "pytorch", "scikit-learn"}
    for text in docstrings.data:
        assert names.isdisjoint(text.lower().split())
        assert ">>>" not in text


@pytest.mark.parametrize(
    ("text", "stripped"),
    [
        ("Use np.linalg.norm or torch.", "Use or ."),
        ("NumPy, scikit-learn and PyTorch", ", and"),
        ("input numbers, spnego", "input numbers, spnego"),
        ("shape (n_samples, 3) of x_", "shape ( , 3) of"),
        ("a :class:`Tensor`, a :py:class:`Tensor`", "a `Tensor`, a `Tensor`"),
        ("Sum.\n\n    Parameters\n    ----------\n    x : float\n", "Sum. x : float"),
        ("Sum.\n\n    Args:\n        x: a number\n\n    Example::\n", "Sum. x: a number"),
        ("Sum.\n\n    >>> 1 + 1\n    2\n    >>> 2\n\n    More.", "Sum. More."),
        (".. versionadded:: 1.2\nMore.", "More."),
        ("%(before)s kept", "kept"),
    ],
)
def test_what_gives_the_label_away_is_taken_out(text, stripped):
    assert helper.strip_give_aways(text) == stripped


def test_docstrings_of_modules_classes_methods_and_functions_are_found():
    source = '"""M."""\nclass A:\n    """A."""\n    def f(self):\n        """F."""\n'
    source += 'async def g():\n    """G."""\ndef h(): pass\n'
    found = list(helper._docstrings(ast.parse(source)))
    assert [text for text in found if text] == ["M.", "A.", "F.", "G."]


def test_private_folders_and_tests_are_left_out(made_up_packages):
    text = " ".join(["word"] * 40)
    for folder in ("tests", "_vendor", "_core", "sub/externals", "sub"):
        inside = made_up_packages / "made_up_0" / folder
        inside.mkdir(parents=True, exist_ok=True)
        (inside / "module.py").write_text(f'"""In {folder.replace("/", " ")}: {text}"""')
    names = load_docstrings().filenames
    kept = {name.removeprefix("made_up_0/") for name in names if name.startswith("made_up_0")}
    assert kept == {"__init__.py", "_core/module.py", "sub/module.py"}


def test_a_text_that_stands_in_two_packages_is_taken_once(made_up_packages):
    for place in (0, 1):
        source = f'"""Twice {" ".join(["word"] * 40)}"""'
        (made_up_packages / f"made_up_{place}" / "copied.py").write_text(source)
    twice = [text.startswith("Twice") for text in load_docstrings().data]
    assert sum(twice) == 1


def test_source_is_parsed_but_never_executed(made_up_packages):
    source = f'"""{" ".join(["word"] * 40)} \\d"""\nraise SystemExit'  # \\d: an escape that warns
    (made_up_packages / "made_up_0" / "dangerous.py").write_text(source)
    assert "made_up_0/dangerous.py" in load_docstrings().filenames
    assert "made_up_0" not in sys.modules


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="numpy"):
        load_docstrings()
