"""Imports inside skae run downward only, and a few habits of the source hold everywhere.

The rules are the tables below; the package is read, and imported for its classes alone. Layers,
from the top:

    outliers -> estimators -> _training -> vocabulary -> _kernels -> ground floor -> exceptions

The companions (metrics, plotting, datasets) stand beside the estimators and do not see them.
"""

import ast
import importlib
import inspect
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "skae").rglob("*.py"))

VOCABULARY = (
    *("inits", "likelihoods", "sparsity", "noise", "networks", "priors", "samplers", "schedules"),
)
COMPANIONS = ("metrics", "plotting", "datasets")

# Every file or folder directly under skae/ is in one layer.
LAYER = {
    "__init__": "front",
    "estimators": "estimators",
    "outliers": "outliers",
    "_training": "training",
    **dict.fromkeys(VOCABULARY, "vocabulary"),
    "_kernels": "kernels",
    **dict.fromkeys(COMPANIONS, "companions"),
    "_validation": "ground",
    "_hints": "ground",
    "_tables": "ground",
    "_warnings": "ground",
    "_state": "ground",
    "_hidden": "ground",
    "_sklearn": "ground",
    "constraints": "ground",
    "_random": "ground",
    "_modules": "ground",
    "_trial": "ground",
    "_linear_path": "ground",
    "_layers": "ground",
    "_blas": "ground",
    "_blocks": "ground",
    "_scaling": "ground",
    "_duplicates": "ground",
    "exceptions": "exceptions",
}

# What the files of a layer may import from skae. A vocabulary file imports no other one, but where
# a vocabulary is a folder, its files import each other.
MAY_IMPORT = {
    "front": {"estimators", "outliers", "training"},
    "outliers": {"outliers", "estimators", "ground", "exceptions"},
    "estimators": {"estimators", "training", "vocabulary", "kernels", "ground", "exceptions"},
    "training": {"training", "vocabulary", "kernels", "ground", "exceptions"},
    "vocabulary": {"kernels", "ground", "exceptions"},
    "kernels": {"kernels", "ground", "exceptions"},
    "companions": {"companions", "vocabulary", "kernels", "ground", "exceptions"},
    "ground": {"ground", "exceptions"},
    "exceptions": set(),
}

# What a file of estimators/ may import from beside it. A file not named here is a transformer.
TRANSFORMERS = {"autoencoder", "sparse", "denoising", "variational"}
TRANSFORMER_SIBLINGS = {"base", "declaration", "parameters"}
SIBLINGS = {
    "__init__": {"base", *TRANSFORMERS, "stacked"},
    # A meta-estimator imports what it defaults to.
    "stacked": {"levels", "specify", "autoencoder", *TRANSFORMER_SIBLINGS},
    "levels": {"base", "specify"},
    "base": {"answers", "specify"},
    "answers": {"units"},
    "units": set(),
    "specify": {"parameters"},
    "parameters": {"declaration"},
    "declaration": set(),
}

# Other packages that one layer only may import.
ONLY_IN_LAYER = {"skorch": "training"}
# Other packages that are imported inside the function that needs them, never with the module.
ONLY_IN_FUNCTIONS = {"matplotlib"}

# Private names of other packages, each with the only file that uses it, and says why.
HOME_OF_PRIVATE = {
    "_fit_context": "skae/_sklearn.py",
    "_check_sample_weight": "skae/_sklearn.py",
    "_param_validation": "skae/_sklearn.py",
    "_safe_indexing": "skae/_sklearn.py",
    "_indices": "skae/_kernels/rows.py",
    "_values": "skae/_kernels/rows.py",
    "_forward_hooks": "skae/_modules.py",
    "_forward_pre_hooks": "skae/_modules.py",
    "_backward_hooks": "skae/_modules.py",
    "_backward_pre_hooks": "skae/_modules.py",
    "_ConvNd": "skae/_modules.py",
    "_version": "skae/_modules.py",
    "_foreach_add_": "skae/_kernels/optimizer.py",
    "_foreach_lerp_": "skae/_kernels/optimizer.py",
    "_fused_adamw_": "skae/_kernels/optimizer.py",
    "_set_training": "skae/_training/net.py",
    "_python_dispatch": "skae/_training/side_by_side/tape.py",
}
# Names with an underscore that Python documents.
PUBLIC_ANYWAY = {"_asdict", "_fields", "_make", "_replace"}

MAX_LINES = 450
MAX_LINES_OF = {"skae/estimators/base.py": 310}

# Calls that change a generator which the user's program shares with us.
RESEEDS = {
    "random.seed",
    "random.setstate",
    "numpy.random.seed",
    "numpy.random.set_state",
    "torch.seed",
    "torch.manual_seed",
    "torch.default_generator.manual_seed",
    "torch.default_generator.set_state",
    "torch.set_rng_state",
    "torch.random.seed",
    "torch.random.manual_seed",
    "torch.random.set_rng_state",
    "torch.cuda.manual_seed",
    "torch.cuda.manual_seed_all",
    "torch.cuda.set_rng_state",
    "torch.cuda.set_rng_state_all",
    "torch.mps.manual_seed",
}
MAY_RESEED = {"skae/_random.py"}


class Import(NamedTuple):
    """One imported name: "from skae.noise import Swap" has the target "skae.noise.Swap"."""

    line: int
    target: str
    local_name: str
    in_function: bool


def imports_of(path: str, source: str) -> list[Import]:
    """All imports of a file, wherever they stand, relative ones made absolute."""
    tree = ast.parse(source)
    nested = {
        id(inner)
        for outer in ast.walk(tree)
        if isinstance(outer, (ast.FunctionDef, ast.AsyncFunctionDef))
        for inner in ast.walk(outer)
    }
    return [
        Import(node.lineno, target, local_name, id(node) in nested)
        for node in ast.walk(tree)
        for target, local_name in _targets(path, node)
    ]


def _targets(path: str, node: ast.AST) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            # "import torch.cuda" binds "torch".
            first = alias.name.partition(".")[0]
            yield alias.name, alias.asname or first
    elif isinstance(node, ast.ImportFrom):
        folder = path.split("/")[: -node.level] if node.level else []
        for alias in node.names:
            parts = [*folder, *filter(None, [node.module]), alias.name]
            yield ".".join(parts), alias.asname or alias.name


def layer_of_file(path: str) -> str | None:
    return LAYER.get(Path(path).parts[1].removesuffix(".py"))


def layer_of_target(target: str) -> str | None:
    """Layer of an imported name; None for what lies outside skae or is no part of a layer."""
    first, *rest = target.split(".")
    return LAYER.get(rest[0]) if first == "skae" and rest else None


def import_faults(path: str, source: str) -> list[str]:
    """One readable line for each import that breaks a rule."""
    if layer_of_file(path) is None:
        return [f"{path} belongs to no layer: put it into LAYER in tests/test_architecture.py"]
    found = ((one, _fault(path, one)) for one in imports_of(path, source))
    return [f"{path}:{one.line} imports {one.target}: {fault}" for one, fault in found if fault]


def _fault(path: str, one: Import) -> str | None:
    package = one.target.partition(".")[0]
    if package == "skae":
        return _inside_fault(path, one.target)
    layer = layer_of_file(path)
    if layer == "front" and package != "__future__":
        return "the front file imports from the package only"
    if ONLY_IN_LAYER.get(package, layer) != layer:
        return f"only the layer {ONLY_IN_LAYER[package]!r} imports {package}"
    if package in ONLY_IN_FUNCTIONS and not one.in_function:
        return f"{package} is imported inside the function that needs it"
    return None


def _inside_fault(path: str, target: str) -> str | None:
    layer, other = layer_of_file(path), layer_of_target(target)
    if other is None or other == "front":
        return "import from the file that defines it, not from the front file"
    if layer == other == "vocabulary":
        return _vocabulary_fault(path, target)
    if other not in MAY_IMPORT[layer]:
        allowed = ", ".join(sorted(MAY_IMPORT[layer])) or "nothing"
        return f"the layer {layer!r} imports from skae: {allowed}"
    if layer == other == "estimators":
        return _sibling_fault(path, target)
    return None


def _vocabulary_fault(path: str, target: str) -> str | None:
    _, *folder, _ = path.split("/")
    _, *place = target.split(".")
    # From a file of the folder, not from the folder itself: its __init__ imports them all.
    if folder == place[:1] and f"skae/{'/'.join(place[:2])}.py" in FILES:
        return None
    return "a vocabulary imports no other one; inside its folder, from the file that defines it"


def _sibling_fault(path: str, target: str) -> str | None:
    allowed = SIBLINGS.get(Path(path).stem, TRANSFORMER_SIBLINGS)
    sibling = [*target.split("."), ""][2]
    if sibling in allowed:
        return None
    return f"from beside it, it may import: {', '.join(sorted(allowed)) or 'nothing'}"


def reseeding_faults(path: str, source: str) -> list[str]:
    """One readable line for each call that reseeds a generator of the whole program."""
    if path in MAY_RESEED:
        return []
    bound = {one.local_name: one.target for one in imports_of(path, source)}
    calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    found = ((node.lineno, _full_name(node.func, bound)) for node in calls)
    return [
        f"{path}:{line} calls {name}: only {', '.join(sorted(MAY_RESEED))} may touch it"
        for line, name in found
        if name in RESEEDS
    ]


def _full_name(node: ast.expr, bound: dict[str, str]) -> str | None:
    """Dotted name of what is called, aliases resolved; None for calls on other expressions."""
    if isinstance(node, ast.Attribute):
        owner = _full_name(node.value, bound)
        return owner and f"{owner}.{node.attr}"
    if not isinstance(node, ast.Name):
        return None
    target = bound.get(node.id)
    # "import torch.cuda" binds torch, not torch.cuda.
    return node.id if target is None or target.startswith(f"{node.id}.") else target


def private_faults(path: str, source: str) -> list[str]:
    """One readable line for each private name of another package outside its home."""
    found = [*_private_imports(path, source), *_private_attributes(source)]
    homes = ((line, name, HOME_OF_PRIVATE.get(name)) for line, name in found)
    return [
        f"{path}:{line} uses {name}, which is private elsewhere: only in {home or 'no file'}"
        for line, name, home in homes
        if home != path
    ]


def _private_imports(path: str, source: str) -> Iterator[tuple[int, str]]:
    for one in imports_of(path, source):
        package, *rest = one.target.split(".")
        if package != "skae":
            yield from ((one.line, part) for part in rest if _is_private(part))


def _private_attributes(source: str) -> Iterator[tuple[int, str]]:
    """Give names that are looked up on objects, but that no file of skae gives to any."""
    ours = PUBLIC_ANYWAY | OURS | names_given(source)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and _is_private(node.attr) and node.attr not in ours:
            yield node.lineno, node.attr


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def names_given(source: str) -> set[str]:
    """Return the names of functions, classes, variables and attributes that a file makes."""
    nodes = list(ast.walk(ast.parse(source)))
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    stored = [node for node in nodes if isinstance(getattr(node, "ctx", None), ast.Store)]
    return (
        {node.name for node in nodes if isinstance(node, kinds)}
        | {node.id for node in stored if isinstance(node, ast.Name)}
        | {node.attr for node in stored if isinstance(node, ast.Attribute)}
    )


def front_faults(source: str) -> list[str]:
    """One readable line for each statement of skae/__init__.py that does not belong there."""
    return [
        f"skae/__init__.py:{node.lineno}: {ast.unparse(node).splitlines()[0]}"
        for node in ast.parse(source).body
        if not _belongs_in_front(node)
    ]


def _belongs_in_front(node: ast.stmt) -> bool:
    if isinstance(node, ast.Assign):
        return {ast.unparse(name) for name in node.targets} <= {"__all__", "__version__"}
    is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return is_docstring or isinstance(node, (ast.Import, ast.ImportFrom))


def classes_of(path: str) -> list[type]:
    """All classes that a file defines at its top."""
    name = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    module = importlib.import_module(name)
    return [
        one for one in vars(module).values() if isinstance(one, type) and one.__module__ == name
    ]


def inheritance_faults(classes: Iterable[type], package: str = "skae") -> dict[str, str]:
    """One readable line for each class that inherits from a concrete one, and the parent's module.

    Errors are left out: what they inherit from is there for callers to catch.
    """
    return {
        f"{one.__name__} inherits from {base.__name__}, which is not abstract": base.__module__
        for one in classes
        for base in one.__bases__
        if base.__module__.partition(".")[0] == package
        and not (_is_abstract(base) or issubclass(base, BaseException))
    }


def _is_abstract(kind: type) -> bool:
    return inspect.isabstract(kind) or ABC in kind.__bases__ or kind.__name__.endswith("Mixin")


def read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


OURS = set().union(*(names_given(read(path)) for path in FILES))

# The package as it stands.


def test_the_package_is_found():
    assert "skae/__init__.py" in FILES


@pytest.mark.parametrize("path", FILES)
def test_imports_run_downward(path):
    faults = import_faults(path, read(path))
    assert not faults, "\n" + "\n".join(faults)


@pytest.mark.parametrize("path", FILES)
def test_global_generators_are_left_alone(path):
    faults = reseeding_faults(path, read(path))
    assert not faults, "\n" + "\n".join(faults)


@pytest.mark.parametrize("path", FILES)
def test_private_names_of_others_stay_at_home(path):
    faults = private_faults(path, read(path))
    assert not faults, "\n" + "\n".join(faults)


def test_every_private_name_is_still_used():
    imported = {name for path in FILES for _, name in _private_imports(path, read(path))}
    looked_up = {name for path in FILES for _, name in _private_attributes(read(path))}
    assert imported | looked_up == set(HOME_OF_PRIVATE)


GENERATED = {"generated", "gallery"}
PAGES = sorted(path for path in (ROOT / "docs").rglob("*.rst") if GENERATED.isdisjoint(path.parts))


@pytest.mark.parametrize("path", [ROOT / "README.md", *PAGES], ids=lambda path: path.name)
def test_pages_for_users_import_nothing_private(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    imports = [line for line in lines if re.match(r"[>. ]*(from|import) ", line)]
    assert not [line for line in imports if re.search(r"[ .]_(?!_)", line.lstrip(">. "))]


@pytest.mark.parametrize("path", FILES)
def test_files_can_be_read_in_one_sitting(path):
    most = MAX_LINES_OF.get(path, MAX_LINES)
    lines = len(read(path).splitlines())
    assert lines <= most, f"{path} has {lines} lines, more than {most}: split it by question"


def test_classes_are_abstract_or_final():
    faults = inheritance_faults(kind for path in FILES for kind in classes_of(path))
    assert not faults, "\n" + "\n".join(faults)


def test_front_file_has_public_names_and_version_only():
    faults = front_faults(read("skae/__init__.py"))
    assert not faults, "\n" + "\n".join(faults)


# The checker itself, on source made up for it.

BROKEN = {
    "upward": ("skae/likelihoods.py", "from skae._training.net import AutoencoderNet"),
    "upward in a function": ("skae/_validation.py", "def f():\n    import skae.noise"),
    "upward, relative": ("skae/_training/net.py", "from ..estimators import base"),
    "vocabulary beside": ("skae/noise.py", "from skae.likelihoods import Gaussian"),
    "vocabulary beside, relative": ("skae/noise.py", "from . import likelihoods"),
    "vocabulary as a name": ("skae/noise.py", "from skae import likelihoods"),
    "vocabulary from a folder": ("skae/likelihoods/real.py", "from skae.noise import Noise"),
    "vocabulary to a folder": ("skae/noise.py", "from skae.likelihoods.base import Likelihood"),
    "file to its folder": ("skae/likelihoods/real.py", "from skae.likelihoods import Likelihood"),
    "file to its whole folder": ("skae/likelihoods/real.py", "import skae.likelihoods"),
    "kernels to vocabulary": ("skae/_kernels/csr.py", "import skae.likelihoods"),
    "transformer beside": ("skae/estimators/sparse.py", "from .autoencoder import Autoencoder"),
    "transformer to its folder": (
        "skae/estimators/sparse.py",
        "from skae.estimators import AutoencoderTransformer",
    ),
    "base to transformer": ("skae/estimators/base.py", "import skae.estimators.variational"),
    "through the front file": ("skae/_random.py", "from skae import VAETransformer"),
    "the whole package": ("skae/_random.py", "import skae"),
    "front to elsewhere": ("skae/__init__.py", "from skae.likelihoods import Gaussian"),
    "front to another package": ("skae/__init__.py", "import torch"),
    "skorch": ("skae/estimators/base.py", "from skorch.callbacks import EarlyStopping"),
    "skorch in a function": ("skae/noise.py", "def f():\n    import skorch"),
    "companion to estimators": ("skae/metrics.py", "from skae.estimators import base"),
    "companion to training": ("skae/plotting.py", "from ._training import net"),
    "companion's file to estimators": ("skae/plotting/size.py", "from skae import estimators"),
    "matplotlib": ("skae/plotting/size.py", "import matplotlib.pyplot as plt"),
    "matplotlib in try": ("skae/plotting/size.py", "try:\n    import matplotlib\nfinally: pass"),
    "no layer": ("skae/helpers.py", "import numpy"),
}

SOUND = {
    "down": ("skae/estimators/sparse.py", "from skae.sparsity import SPARSITIES"),
    "down, relative": ("skae/_training/net.py", "from ..likelihoods import Gaussian"),
    "base": ("skae/estimators/sparse.py", "from skae.estimators.base import BaseAutoencoder"),
    "meta-estimator": ("skae/outliers/detector.py", "from skae.estimators.denoising import Sth"),
    "folder": ("skae/estimators/__init__.py", "from .sparse import SparseAutoencoder"),
    "vocabulary folder": ("skae/likelihoods/__init__.py", "from .base import Likelihood"),
    "beside in a folder": ("skae/likelihoods/real.py", "import skae.likelihoods.base"),
    "front": ("skae/__init__.py", "from skae.estimators import VAETransformer"),
    "skorch": ("skae/_training/net.py", "from skorch import NeuralNet"),
    "companion's file": ("skae/plotting/size.py", "from skae.plotting.display import Display"),
    "matplotlib": ("skae/plotting/size.py", "def f():\n    import matplotlib.pyplot as plt"),
    "others": ("skae/likelihoods.py", "import math\nimport torch\nimport skaenode"),
}

RESEEDING = {
    "torch": "import torch\ntorch.manual_seed(0)",
    "torch by alias": "import torch as t\nt.cuda.manual_seed_all(0)",
    "torch by submodule": "import torch.cuda\ntorch.cuda.manual_seed(0)",
    "torch by name": "from torch import manual_seed as fix\nfix(0)",
    "numpy": "import numpy as np\ndef f():\n    np.random.seed(0)",
    "numpy by submodule": "from numpy import random as r\nr.seed(0)",
    "random": "import random\nrandom.seed(0)",
}

NOT_RESEEDING = {
    "own torch generator": "import torch\ntorch.Generator().manual_seed(0)",
    "own named generator": "def f(generator):\n    generator.manual_seed(0)",
    "own numpy generator": "import numpy as np\nnp.random.RandomState(0).seed(1)",
}


PRIVATE = {
    "name": ("skae/noise.py", "from sklearn.base import _fit_context"),
    "module": ("skae/noise.py", "from sklearn.utils._param_validation import Interval"),
    "module in a function": ("skae/noise.py", "def f():\n    import torch._C"),
    "no home": ("skae/_sklearn.py", "from sklearn.utils import _tags"),
    "attribute": ("skae/noise.py", "def f(x):\n    return x._values()"),
    "attribute without a home": ("skae/noise.py", "import torch\ntorch._foreach_add"),
    "of the parent": ("skae/noise.py", "def f(self):\n    self._get_iterator_of_skorch()"),
}

NOT_PRIVATE = {
    "at home": ("skae/_sklearn.py", "from sklearn.base import _fit_context as fit_context"),
    "attribute at home": ("skae/_kernels/rows.py", "def f(x):\n    return x._values()"),
    "ours": ("skae/noise.py", "from skae._random import Stream\nclass A:\n    _b = 1\nA()._b"),
    "future": ("skae/noise.py", "from __future__ import annotations\nx.__dict__"),
    "named tuple": ("skae/noise.py", "x._replace(a=1)"),
}


@pytest.mark.parametrize(("path", "source"), PRIVATE.values(), ids=PRIVATE)
def test_checker_catches_a_private_name(path, source):
    (fault,) = private_faults(path, source)
    assert fault.startswith(f"{path}:")


@pytest.mark.parametrize(("path", "source"), NOT_PRIVATE.values(), ids=NOT_PRIVATE)
def test_checker_lets_other_names_pass(path, source):
    assert private_faults(path, source) == []


@pytest.mark.parametrize(("path", "source"), BROKEN.values(), ids=BROKEN)
def test_checker_catches_an_import(path, source):
    (fault,) = import_faults(path, source)
    assert fault.startswith(path)


@pytest.mark.parametrize(("path", "source"), SOUND.values(), ids=SOUND)
def test_checker_lets_an_import_pass(path, source):
    assert import_faults(path, source) == []


@pytest.mark.parametrize("source", RESEEDING.values(), ids=RESEEDING)
def test_checker_catches_reseeding(source):
    (fault,) = reseeding_faults("skae/noise.py", source)
    assert fault.startswith("skae/noise.py:")
    assert reseeding_faults("skae/_random.py", source) == []


@pytest.mark.parametrize("source", NOT_RESEEDING.values(), ids=NOT_RESEEDING)
def test_checker_lets_own_generators_pass(source):
    assert reseeding_faults("skae/noise.py", source) == []


def test_checker_catches_code_in_the_front_file():
    source = '"""Doc."""\nfrom .estimators import X\n__all__ = ["X"]\nREGISTRY = {}\nif X: pass'
    assert [fault.split(":")[1] for fault in front_faults(source)] == ["4", "5"]


def test_checker_tells_abstract_classes_from_concrete_ones():
    class Base(ABC):  # noqa: B024
        pass

    class StillAbstract(Base):
        @abstractmethod
        def method(self): ...

    class SomeMixin:
        pass

    class Final(SomeMixin, StillAbstract):
        def method(self): ...

    class Child(Final):
        pass

    package = __name__.partition(".")[0]
    assert inheritance_faults([Base, StillAbstract, SomeMixin, Final], package) == {}
    assert list(inheritance_faults([Child], package)) == [
        "Child inherits from Final, which is not abstract"
    ]
