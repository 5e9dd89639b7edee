"""Which real text is always there? The docstrings of installed packages.

Not an example but what several of them load. Nothing is downloaded and nothing is imported: the
source files of the packages are parsed.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from sklearn.utils import Bunch, check_random_state

#: The packages whose docstrings are read, by the name under which they are imported. The place in
#: this tuple is the label.
PACKAGES = ("numpy", "pandas", "scipy", "sklearn", "torch")

# Other names of the same packages, as they stand in running text and in code.
_ALIASES = ("np", "pd", "sp", "scikit", "pytorch", "libtorch", "aten")

_SKIPPED_FOLDERS = {"tests", "externals", "vendored", "distutils"}
_DOCUMENTED = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef

# Where a word is taken out, a space stays. The order matters: whole lines first, then words.
_GIVEN_AWAY = [
    # An example and its output, up to the next blank line.
    re.compile(r"^[ \t]*>>>.*\n?(?:[ \t]*\S.*\n?)*", re.MULTILINE),
    # A heading with its underline (numpydoc), or with a colon on a line of its own (Google).
    re.compile(r"^[ \t]*\S.*\n[ \t]*[-=~^]{3,}[ \t]*$", re.MULTILINE),
    re.compile(r"^[ \t]*[A-Z]\w*(?: \w+)?::?[ \t]*$", re.MULTILINE),
    # A directive (".. versionadded:: 1.2") with what stands on its line; a role (":class:").
    re.compile(r"^[ \t]*\.\. .*$", re.MULTILINE),
    re.compile(r":[a-z]+(?::[a-z]+)?:(?=`)"),
    # Names as code has them, with a dot or an underscore; placeholders; the packages by name.
    re.compile(r"%\(\w+\)s"),
    re.compile(r"\b[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+"),
    re.compile(r"\b[A-Za-z0-9]*_\w*"),
    re.compile(
        rf"\b_*(?:scikit-learn|{'|'.join(PACKAGES + _ALIASES)})_*\b",
        re.IGNORECASE,
    ),
]


def load_docstrings(*, n_per_package=500, min_words=30, random_state=0):
    """Load docstrings of numpy, pandas, scipy, scikit-learn and torch, to be told apart.

    Real text for examples of text classification, on any machine that has skae. The documents are
    the docstrings of modules, classes and functions in the installed source files, tests and
    private folders left out. The files are parsed, never imported.

    What would give the label away by itself is taken out: names of the packages and their usual
    aliases ("np", "pd"), other names with a dot or an underscore, examples (``>>>``) with their
    output, Sphinx directives and roles, and section headings, whose style differs between packages.
    What is left is what the texts are about, and how they are written.

    Parameters
    ----------
    n_per_package : int, default=500
        Most documents of a package, at least 1. Where there are more, a random choice is taken.
    min_words : int, default=30
        Fewest words of a document, at least 1, once words have been taken out.
    random_state : int, RandomState or None, default=0
        Source of the choice and of the order.

    Returns
    -------
    docstrings : Bunch
        With n_documents = at most ``5 * n_per_package``, in random order:

        data : list of str, of length n_documents
            Texts, no two of them equal.
        target : ndarray of int, of shape (n_documents,)
            Place of the package in ``target_names``.
        target_names : list of str, of length 5
            Names under which the packages are imported.
        filenames : ndarray of str, of shape (n_documents,)
            Source file of each text, from the package folder on. Texts of one file resemble each
            other, so a split that keeps files together is the stricter test.

    Raises
    ------
    ModuleNotFoundError
        The source files of a package are not there.

    Notes
    -----
    The texts are those of the installed versions: figures from them are comparable within one
    environment only.

    Examples
    --------
    >>> from docstrings import load_docstrings
    >>> docstrings = load_docstrings(n_per_package=20)
    >>> len(docstrings.data), docstrings.target.shape
    (100, (100,))
    >>> docstrings.target_names
    ['numpy', 'pandas', 'scipy', 'sklearn', 'torch']
    """
    rng = check_random_state(random_state)
    origin: dict[str, tuple[str, int]] = {}  # file and label of each text
    for label, package in enumerate(PACKAGES):
        file_of = _texts_of(package, 2 * n_per_package, min_words, rng)
        new = [text for text in file_of if text not in origin]
        order = rng.permutation(len(new))[:n_per_package]
        origin |= {new[i]: (file_of[new[i]], label) for i in order}
    texts = list(origin)
    data = [texts[i] for i in rng.permutation(len(texts))]
    return Bunch(
        data=data,
        target=np.array([origin[text][1] for text in data]),
        target_names=list(PACKAGES),
        filenames=np.array([origin[text][0] for text in data]),
    )


def _texts_of(
    package: str, enough: int, min_words: int, rng
) -> dict[str, str]:
    """Return distinct texts of a package, each with the first file that holds it.

    Parsing takes nearly all of the time, so files are read in a random order until there are
    enough texts.
    """
    root = _folder(package)
    paths = [
        path
        for path in sorted(root.rglob("*.py"))
        if not _is_skipped(path.relative_to(root))
    ]
    file_of: dict[str, str] = {}
    for place in rng.permutation(len(paths)):
        path = paths[place]
        for docstring in _docstrings(_parsed(path)):
            text = strip_give_aways(docstring)
            if len(text.split()) >= min_words:
                file_of.setdefault(
                    text, f"{package}/{path.relative_to(root).as_posix()}"
                )
        if len(file_of) >= enough:
            break
    return file_of


def _folder(package: str) -> Path:
    spec = importlib.util.find_spec(
        package
    )  # finds a top-level package without importing it
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(
            f"load_docstrings found no source files of {package!r}."
        )
    return Path(spec.origin).parent


def _is_skipped(path: Path) -> bool:
    folders = path.parts[:-1]
    private = any(
        folder.startswith("_") and folder != "_core" for folder in folders
    )
    return private or not _SKIPPED_FOLDERS.isdisjoint(folders)


def _parsed(path: Path) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # escapes that Python is about to forbid: not our source
        return ast.parse(path.read_bytes())


def _docstrings(node: ast.Module | _DOCUMENTED) -> Iterator[str]:
    """Give the docstrings of a module, its functions, its classes and theirs, from the top."""
    yield ast.get_docstring(node, clean=False) or ""
    for inner in node.body:
        if isinstance(inner, _DOCUMENTED):
            yield from _docstrings(inner)


def strip_give_aways(text: str) -> str:
    """Return a docstring on one line, without what names its package.

    Parameters
    ----------
    text : str
        A docstring, indented or not.

    Returns
    -------
    stripped : str
        Its words with single spaces between them.

    Examples
    --------
    >>> from docstrings import strip_give_aways
    >>> strip_give_aways("Like numpy.sum, for a :class:`Tensor` in PyTorch.")
    'Like , for a `Tensor` in .'
    """
    for pattern in _GIVEN_AWAY:
        text = pattern.sub(" ", text)
    return " ".join(text.split())
