"""The package is found from wherever Python is started, beside a clone of the repository too."""

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

FIND = "import importlib.util; print(importlib.util.find_spec('skae').origin)"


def find_from(folder):
    """Return where a new Python, started in a folder, finds the package."""
    usual = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    found = subprocess.run(
        [sys.executable, "-c", FIND], cwd=folder, env=usual, check=True, capture_output=True
    )
    return found.stdout.decode().strip()


@pytest.fixture
def installed():
    """The distribution, if it is installed in a way that this repository makes."""
    try:
        files = importlib.metadata.files("skae") or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("skae is not installed here")
    if any(file.name.startswith("__editable__") and file.suffix == ".py" for file in files):
        pytest.skip("installed for editing before pyproject.toml said how: run make clean")
    return files


def test_folder_of_the_same_name_does_not_hide_the_package(installed, tmp_path):
    (tmp_path / "skae" / "docs").mkdir(parents=True)  # a clone has folders, and no __init__.py
    assert Path(find_from(tmp_path)) == Path(find_from(tmp_path.parent))
    assert Path(find_from(tmp_path)).name == "__init__.py"


def test_tests_and_the_like_are_not_installed(installed):
    own = {
        file.parts[0] for file in installed if not file.parts[0].startswith(("..", "__editable"))
    }
    assert all(name == "skae" or name.startswith("skae-") for name in own), own
    assert any(file.name == "LICENSE" for file in installed)
