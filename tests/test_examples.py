"""Every example says what it asks, is listed, runs, and writes its picture."""

import ast
import runpy
import time
from pathlib import Path

import pytest

plt = pytest.importorskip("matplotlib.pyplot")

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))
# The quickstart is run by `make demo`.
GALLERY = [path for path in SCRIPTS if path.name.startswith("plot_")]


def test_the_examples_are_found():
    assert len(GALLERY) >= 4


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_example_opens_with_a_text_and_is_listed(path):
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert f"({path.name})" in (EXAMPLES / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("path", GALLERY, ids=lambda path: path.stem)
def test_example_runs_and_writes_its_picture(path, monkeypatch):
    plt.switch_backend("Agg")
    plt.close("all")  # what other tests have left
    monkeypatch.syspath_prepend(EXAMPLES)  # as a script finds what lies beside it
    started = time.time()
    with plt.rc_context():
        runpy.run_path(str(path), run_name="__main__")
    drawn = plt.get_fignums()
    plt.close("all")
    assert drawn  # what the gallery shows
    if path.stem != "plot_tutorial":  # which can be pasted: nothing beside it is imported
        picture = EXAMPLES / "output" / f"{path.stem.removeprefix('plot_')}.png"
        assert picture.stat().st_mtime >= started - 1
