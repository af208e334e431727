"""Lazy imports: a package imports a module at the first use of one of its names, so that `--help` needs no Keras."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def lazy_names(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the `__getattr__` of a package that imports its public names at their first use.

    Args:
        package: the package's `__name__`.
        modules: module in the package -> its names that are public in the package, separated by spaces.

    Returns:
        a function from a name, or the name of a module, to its value.

    Example:
        >>> lazy_names("keras_attention", {"layers": "", "outputs": "Caption Tagging"})("Caption").__name__
        'Caption'
    """
    module_of = {name: module for module, names in modules.items() for name in names.split()}

    def get(name: str) -> Any:
        if name in module_of:
            return getattr(importlib.import_module(f"{package}.{module_of[name]}"), name)
        if name in modules:
            return importlib.import_module(f"{package}.{name}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return get


class LazyModule:
    """A module that is imported when one of its names is first used.

    Args:
        name: the full name of the module.

    Example:
        >>> LazyModule("math").gcd(12, 18)
        6
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self._name), name)
