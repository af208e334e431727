"""The package's structure: allowed imports, allowed calls of softmax, and the cost of an import."""

import ast
import os
import pathlib
import subprocess
import sys

import pytest

import keras_attention

ROOT = pathlib.Path(keras_attention.__file__).parent
PUBLIC = {""}  # the package itself: `import keras_attention as ka`
ALLOWED = {
    "config": set(),
    "outputs": set(),
    "storage": set(),
    "data": {"data", "storage", "quickstart"},  # the package's `tfds:` data sets
    "presets": {"config"},
    "layers": {"layers"},
    "generation": {"generation", "layers.cache"},
    "models": {"models", "config", "outputs", "presets", "layers", "data", "generation", "metrics"},
    "metrics": {"metrics", "data"},
    "training": {"training", "layers.masks", "data", "metrics", "storage"},
    "weights": {"weights", "config", "presets", "models", "data", "storage"},
    "serving": {"serving", "models", "outputs", "generation", "data", "storage", "__version__"},
    "loading": {"serving", "storage", "weights"} | PUBLIC,
    "visualize": {"storage"} | PUBLIC,
    "quickstart": {"quickstart", "cli"} | PUBLIC,
    "evaluate": PUBLIC,
    "cli": {"cli", "evaluate", "storage", "visualize"} | PUBLIC,
}
LATE = {"models/task.py": {"training", "serving"}}  # inside a function: imported at the first call
SOFTMAX_HOMES = ("layers/attention.py", "layers/heads.py", "generation/")


def sources() -> list[pathlib.Path]:
    return sorted(ROOT.rglob("*.py"))


def imported(path: pathlib.Path) -> set[str]:
    """Modules of this package that a file imports, without the package's name."""
    return {name for node in ast.walk(ast.parse(path.read_text())) for name in imported_by(node)}


def imported_by(node: ast.AST) -> set[str]:
    """Modules of this package that one statement imports, without the package's name."""
    names = []
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.module:
        names = [node.module]
        if node.module == "keras_attention":
            names = [f"keras_attention.{alias.name}" for alias in node.names]
    return {
        name.removeprefix("keras_attention").lstrip(".") for name in names if name.split(".")[0] == "keras_attention"
    }


def permitted(module: str, allowed: set[str]) -> bool:
    return any(module == name or (name and module.startswith(f"{name}.")) for name in allowed)


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_follow_the_allowed_directions(path):
    folder = path.relative_to(ROOT).parts[0].removesuffix(".py")
    if folder == "__init__":
        return
    late = LATE.get(path.relative_to(ROOT).as_posix(), set())
    wrong = {module for module in imported(path) if not permitted(module, ALLOWED[folder] | late)}
    assert not wrong, f"{folder} may import {sorted(ALLOWED[folder])}"
    top_level = {module for node in ast.parse(path.read_text()).body for module in imported_by(node)}
    assert not {module for module in top_level if permitted(module, late)}


def test_softmax_is_called_only_in_allowed_modules():
    wrong = []
    for path in sources():
        name = path.relative_to(ROOT).as_posix()
        calls = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
        names = {c.func.attr if isinstance(c.func, ast.Attribute) else getattr(c.func, "id", "") for c in calls}
        if names & {"softmax", "log_softmax"} and not name.startswith(SOFTMAX_HOMES):
            wrong.append(name)
    assert not wrong


def test_no_module_is_named_utils_or_helpers():
    assert not [path for path in sources() if path.stem in ("utils", "misc", "helpers", "common")]


def test_import_on_jax_needs_neither_tensorflow_nor_keras_hub():
    blocked = ("tensorflow", "keras_hub", "tensorflow_text")
    program = f"import sys; sys.modules |= dict.fromkeys({blocked}); import keras_attention as ka; ka.presets()"
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_import_does_not_import_optional_packages():
    program = (
        "import sys, keras; before = set(sys.modules); import keras_attention; new = set(sys.modules) - before\n"
        "heavy = {'keras_hub', 'matplotlib', 'sacrebleu', 'tensorflow', 'tensorflow_datasets', 'click'}\n"
        "print(sorted(new & heavy))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names_exist_and_have_docstrings():
    for name in keras_attention.__all__:
        assert getattr(keras_attention, name).__doc__, name
