"""The docstrings of public names are complete: an example, and sections for what a name takes, returns and raises."""

import ast
import dataclasses
import importlib
import inspect
import pkgutil
import re
import textwrap

import pytest

import keras_attention as ka

CHECKS = ("check_", "require")  # prefixes of functions that raise an error
CALLED_BY_USERS = ("__init__", "__post_init__", "__call__", "build", "call")


def public_objects():
    """The public classes and functions of the package, by their full names; constants have no docstrings."""
    names = [info.name for info in pkgutil.walk_packages(ka.__path__, "keras_attention.") if info.ispkg]
    modules = [ka, ka.config, *map(importlib.import_module, names)]  # a module without `__all__` has no public names
    objects = [getattr(module, name) for module in modules for name in getattr(module, "__all__", ())]
    return {f"{x.__module__}.{x.__qualname__}": x for x in objects if inspect.isroutine(x) or inspect.isclass(x)}


PUBLIC = public_objects()
every_name = pytest.mark.parametrize("name", PUBLIC)


def functions_of(x):
    """The syntax trees of a function, or of the methods of a class that run when it is made and called."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(x))).body
    return (
        [tree] if inspect.isroutine(x) else [node for node in tree.body if getattr(node, "name", "") in CALLED_BY_USERS]
    )


def own_parameters(x):
    """The names of a function's parameters; those of a class that it does not take from its base class."""
    if inspect.isclass(x) and "__init__" not in vars(x):
        return []
    bases = x.__mro__[1:] if dataclasses.is_dataclass(x) else ()
    inherited = {name for base in bases for name in getattr(base, "__dataclass_fields__", ())}
    parameters = inspect.signature(x).parameters.values()
    return [p.name for p in parameters if p.kind is not p.VAR_KEYWORD and p.name not in inherited]


def returns(function):
    return any(isinstance(node, ast.Return) and node.value is not None for node in ast.walk(function))


def raises(function):
    calls = [node.func for node in ast.walk(function) if isinstance(node, ast.Call)]
    names = [getattr(call, "attr", getattr(call, "id", "")).lstrip("_") for call in calls]
    is_raise = [isinstance(node, ast.Raise) for node in ast.walk(function)]
    return any(is_raise) or any(name.startswith(CHECKS) for name in names)


def test_the_public_names_are_found():
    assert {"keras_attention.outputs.Caption", "keras_attention.data.reading.files.read_pairs"} < set(PUBLIC)
    assert len(PUBLIC) > 100


@every_name
def test_a_public_name_has_an_example(name):
    assert re.search(r"\n *Examples?:\n *>>> ", PUBLIC[name].__doc__)


@every_name
def test_a_docstring_describes_every_argument(name):
    described = re.findall(r"^ +\*{0,2}(\w+): ", PUBLIC[name].__doc__, re.MULTILINE)
    assert not set(own_parameters(PUBLIC[name])) - set(described)


RETURNING = [name for name, x in PUBLIC.items() if inspect.isroutine(x) and any(map(returns, functions_of(x)))]
RAISING = [name for name, x in PUBLIC.items() if any(map(raises, functions_of(x)))]


@pytest.mark.parametrize("name", RETURNING)
def test_a_docstring_says_what_is_returned(name):
    assert re.search(r"\n *(Returns|Yields):\n", PUBLIC[name].__doc__)


@pytest.mark.parametrize("name", RAISING)
def test_a_docstring_says_what_is_raised(name):
    assert re.search(r"\n *Raises:\n", PUBLIC[name].__doc__)
