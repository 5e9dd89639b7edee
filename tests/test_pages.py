"""What users read: no code is cut off, README's first cell stands alone, pictures are there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
GENERATED = {"generated", "gallery", "_build"}
PAGES = [
    ROOT / "README.md",
    *sorted(path for path in (ROOT / "docs").rglob("*.rst") if GENERATED.isdisjoint(path.parts)),
]
WIDTH = 76  # columns of code that a page shows without scrolling


def fenced(text):
    """Return the code of a page in Markdown, one text for each block of Python."""
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def code_lines(path):
    """Give the lines of code of a page: fenced, after a prompt or in a code block."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        yield from (line for block in fenced(text) for line in block.splitlines())
        return
    yield from re.findall(r"^ *((?:>>>|\.\.\.) .*)$", text, re.MULTILINE)
    for block in re.findall(r"\.\. code-block::.*\n\n((?:   .*\n|\n)+)", text):
        yield from (line.removeprefix("   ") for line in block.splitlines())


def test_pages_are_found():
    assert len(PAGES) > 10


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_no_line_of_code_is_cut_off(path):
    directive = re.compile(r"\.\. ?[a-z-]+::")
    lines = [line for line in code_lines(path) if not directive.match(line)]
    assert not [line for line in lines if len(line) > WIDTH]


def names_missing(source):
    """Return the names that a cell uses and neither makes nor imports."""
    nodes = list(ast.walk(ast.parse(source)))
    used = {node.id for node in nodes if isinstance(node, ast.Name)}
    made = {
        node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    aliases = [alias for node in nodes for alias in getattr(node, "names", [])]
    return used - made - {alias.asname or alias.name for alias in aliases} - set(dir(__builtins__))


def test_the_first_cell_of_the_readme_stands_alone():
    cell, *_ = fenced((ROOT / "README.md").read_text(encoding="utf-8"))
    assert not names_missing(cell) - {"print", "type"}


@pytest.mark.slow
def test_the_first_cell_of_the_readme_prints_what_stands_below_it(capsys):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    cell, *_ = fenced(text)
    exec(compile(cell, "README.md", "exec"), {})
    below = text[text.index(cell) + len(cell) :].removeprefix("```")
    shown = re.search(r"^```\n(.*?)^```", below, re.MULTILINE | re.DOTALL)
    numbers = [re.findall(r"-?\d+\.?\d*", part) for part in (shown[1], capsys.readouterr().out)]
    expected, found = ([float(number) for number in part] for part in numbers)
    assert found == pytest.approx(expected, rel=0.02, abs=0.3)


def test_pictures_of_the_readme_are_there():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", text)
    assert pictures
    assert all((ROOT / picture).is_file() for picture in pictures)
