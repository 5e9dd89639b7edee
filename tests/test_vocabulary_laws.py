"""Is every entry of every vocabulary a component that scikit-learn can handle?"""

import contextlib
import inspect
import pickle
import random
import re

import pytest
from sklearn.base import clone
from sklearn.utils._param_validation import generate_invalid_param_val, make_constraint
from torch import nn

from skae import AutoencoderOutlierDetector
from skae._validation import Component, choice, resolve
from skae.constraints import InvalidParameterError, Names, StrOptions
from skae.likelihoods import LIKELIHOODS, Gaussian, Likelihood
from skae.networks import CustomNetwork, Network
from skae.noise import Noise
from skae.priors import Prior
from skae.samplers import Sampler
from skae.schedules import Schedule
from skae.sparsity import Sparsity
from tests.helpers import ESTIMATORS, VOCABULARIES, global_generators_untouched

ENTRIES = [
    pytest.param(name, vocabulary, base, id=f"{question}-{name}")
    for question, (vocabulary, base) in VOCABULARIES.items()
    for name in vocabulary
]
laws = pytest.mark.parametrize(("name", "vocabulary", "base"), ENTRIES)

# Every parameter of every entry, with its constraints.
PARAMETERS = [
    pytest.param(kind, parameter, constraints, id=f"{kind.__name__}-{parameter}")
    for vocabulary, _ in VOCABULARIES.values()
    for kind in vocabulary.values()
    for parameter, constraints in kind._parameter_constraints.items()
]

# Every parameter of a public class that is chosen by a word.
Offered = StrOptions | Names
WORDS = [
    pytest.param(kind, parameter, words, id=f"{kind.__name__}-{parameter}")
    for kind in [
        *ESTIMATORS,
        AutoencoderOutlierDetector,
        *(kind for vocabulary, _ in VOCABULARIES.values() for kind in vocabulary.values()),
    ]
    for parameter, constraints in kind._parameter_constraints.items()
    if (words := [w for one in constraints if isinstance(one, Offered) for w in one.options])
]


def names_fault(documented, parameter, words):
    """Return what is wrong with the words that a docstring has for a parameter, or None."""
    found = re.search(rf"^( *){parameter} : (.*(?:\n\1 +.*)*)", documented, re.MULTILINE)
    if found is None:
        return "is not documented"
    listed = re.search(r"{(.*?)}", found[2].split("\n")[0])
    named = re.findall(r'"(\w+)"', listed[1] if listed else found[2])
    missing, unknown = set(words) - set(named), set(named) - set(words) if listed else set()
    return f"lacks {missing}, has {unknown} that is not allowed" if missing or unknown else None


# What the base class cannot know.
MUST_GIVE = [
    (Likelihood, "raw_from_mean"),
    (Likelihood, "log_prob"),
    (Likelihood, "mean"),
    (Likelihood, "sample"),
    (Network, "build"),
    (Noise, "corrupt"),
    (Noise, "corrupt_entries"),
    (Prior, "log_prob"),
    (Prior, "sample"),
    (Sampler, "fit"),
    (Sampler, "sample"),
    (Schedule, "factor"),
    (Sparsity, "penalty"),
]


def changed(component):
    """Return a copy in which every number is another one that is in range as well."""
    step = {int: lambda value: value + 1, float: lambda value: value / 2}
    params = component.get_params()
    new = {key: step[type(value)](value) for key, value in params.items() if type(value) in step}
    return clone(component).set_params(**new)


def values_out_of_range(constraints):
    """Return something of no known type, and what breaks each constraint that is a range."""
    values = [object()]
    for constraint in map(make_constraint, constraints):
        with contextlib.suppress(NotImplementedError):  # a constraint by type alone
            values.append(generate_invalid_param_val(constraint))
    return values


@laws
def test_entry_is_valid_as_its_name_makes_it(name, vocabulary, base):
    component = resolve(name, vocabulary)
    assert type(component) is vocabulary[name]
    assert isinstance(component, base)
    assert isinstance(component, Component)


@laws
def test_every_parameter_has_a_constraint_and_is_only_stored(name, vocabulary, base):
    kind = vocabulary[name]
    assert set(kind._parameter_constraints) == set(kind._get_param_names())
    if kind._get_param_names():
        defaults = inspect.signature(kind).parameters
        assert kind().get_params() == {key: p.default for key, p in defaults.items()}


@laws
def test_clone_and_pickle_keep_the_parameters(name, vocabulary, base):
    component = changed(vocabulary[name]())
    for copied in (clone(component), pickle.loads(pickle.dumps(component))):
        assert type(copied) is type(component)
        assert copied is not component
        assert copied.get_params() == component.get_params()


@laws
def test_repr_shows_the_class_and_what_was_changed(name, vocabulary, base):
    component = changed(vocabulary[name]())
    text = repr(component)
    assert text.startswith(type(component).__name__)
    for parameter, value in component.get_params().items():
        is_changed = value != getattr(vocabulary[name](), parameter)
        assert (f"{parameter}={value!r}" in text) == is_changed


@laws
def test_name_and_object_are_accepted_where_a_parameter_is_checked(name, vocabulary, base):
    constraints = [make_constraint(one) for one in choice(vocabulary, base)]
    for value in (name, vocabulary[name]()):
        assert any(one.is_satisfied_by(value) for one in constraints)
    for value in (f"no_{name}", vocabulary[name], None):
        assert not any(one.is_satisfied_by(value) for one in constraints)


@laws
def test_object_of_the_user_is_copied_with_its_parameters(name, vocabulary, base):
    given = changed(vocabulary[name]())
    resolved = resolve(given, vocabulary)
    assert resolved is not given
    assert resolved.get_params() == given.get_params()


@pytest.mark.parametrize(("kind", "parameter", "constraints"), PARAMETERS)
def test_value_out_of_range_is_refused_by_name(kind, parameter, constraints):
    for value in values_out_of_range(constraints):
        component = kind(**{parameter: value})
        with pytest.raises(InvalidParameterError, match=f"'{parameter}' parameter of"):
            component.check()
        with pytest.raises(InvalidParameterError, match="instead"):
            resolve(component, {})


@pytest.mark.parametrize(("base", "method"), MUST_GIVE)
def test_a_subclass_that_leaves_a_method_out_is_told(base, method):
    if method in base.__abstractmethods__:
        others = dict.fromkeys(base.__abstractmethods__ - {method})
        with pytest.raises(TypeError, match=f"abstract.*{method}"):
            type("Mine", (base,), others)()
        return
    arguments = inspect.signature(getattr(base, method)).parameters.values()
    given = [None for one in arguments if one.name != "self" and one.kind is not one.VAR_KEYWORD]
    others = dict.fromkeys(base.__abstractmethods__)
    with pytest.raises(NotImplementedError):
        getattr(type("Mine", (base,), others)(), method)(*given)


@laws
def test_entry_gives_all_that_its_base_asks_for(name, vocabulary, base):
    for kind, method in MUST_GIVE:
        if kind is base and not (method == "penalty" and not vocabulary[name].penalised):
            assert getattr(vocabulary[name], method) is not getattr(base, method)


@laws
def test_making_an_entry_draws_nothing(name, vocabulary, base):
    before = random.getstate()
    with global_generators_untouched():
        resolve(name, vocabulary)
    assert random.getstate() == before


def test_likelihood_and_its_parameter_can_be_named_in_a_grid():
    assert "variance_floor" in resolve("gaussian", LIKELIHOODS).get_params()
    assert resolve(Gaussian(variance_floor=0.2), LIKELIHOODS).variance_floor == 0.2


def test_object_of_a_users_own_class_is_accepted():
    class Mine(Likelihood):
        raw_from_mean = log_prob = mean = sample = None

    assert isinstance(resolve(Mine(), LIKELIHOODS), Mine)


def test_custom_network_can_be_cloned():
    given = CustomNetwork(nn.Linear(3, 2), nn.Linear)
    copied = clone(given)
    assert copied.decoder is nn.Linear
    assert copied.encoder is not given.encoder


# The words in docstrings.


@pytest.mark.parametrize(("kind", "parameter", "words"), WORDS)
def test_docstring_names_the_words_that_are_allowed(kind, parameter, words):
    assert names_fault(kind.__doc__, parameter, words) is None


def test_every_vocabulary_is_offered_by_name_somewhere():
    offered = {
        id(one.vocabulary)
        for kind in (*ESTIMATORS, AutoencoderOutlierDetector)
        for constraints in kind._parameter_constraints.values()
        for one in constraints
        if isinstance(one, Names)
    }
    assert offered == {id(vocabulary) for vocabulary, _ in VOCABULARIES.values()}


@pytest.mark.parametrize(
    ("words", "fault"),
    [(["a", "b"], None), (["a", "b", "c"], "lacks {'c'}"), (["a"], "{'b'} that is not allowed")],
)
def test_checker_knows_words_that_are_missing_or_too_many(words, fault):
    text = '    other : {"c"}\n    kind : {"a", "b"} or None, default="a"\n        Not "d".\n'
    found = names_fault(text, "kind", words)
    assert found is None if fault is None else fault in found
    assert names_fault(text, "none", words) == "is not documented"
    assert names_fault('kind : str\n    "a" and "b".\nother : "c"', "kind", ["a", "b"]) is None
    assert "lacks" in names_fault('kind : str\n    "a".\nother : "b"', "kind", ["a", "b"])
