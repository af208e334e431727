"""The package's structure: allowed imports, allowed calls of softmax, and the cost of an import."""

import ast
import itertools
import os
import pathlib
import re
import subprocess
import sys
import types

import pytest

import keras_attention

ROOT = pathlib.Path(keras_attention.__file__).parent
# The command line uses the public API, `import keras_attention as ka`, and only names of `__all__` in it; see below.
PUBLIC = {""}
ALLOWED = {
    "argument_checks": {"choices"},
    "choices": set(),
    "config": {"argument_checks"},
    "outputs": set(),
    "storage": set(),
    "lazy": set(),
    "version": set(),
    "keras_support": set(),
    "data": {"data", "argument_checks", "choices", "storage"},
    "presets": {"argument_checks", "config"},
    "data_size": set(),
    "defaults": {"config", "data_size", "data"},
    "layers": {"layers", "argument_checks", "choices", "keras_support"},
    "generation": {"generation", "argument_checks", "keras_support", "layers.decoding.cache", "lazy"},
    "task_specs": {"generation", "outputs"},
    "prediction": {"prediction", "argument_checks", "config", "data", "generation", "outputs"},
    "serving": {"serving", "argument_checks", "choices", "data", "generation", "keras_support", "prediction"}
    | {"layers.decoding.merged_dense", "storage", "task_specs", "version"},
    "metrics": {"metrics", "argument_checks", "data", "layers.masks"},
    "training": {"training", "data", "defaults", "metrics", "storage", "lazy", "keras_support"}
    | {"argument_checks", "data_size"},
    "models": {"models", "argument_checks", "config", "data", "data_size", "defaults", "generation", "keras_support"}
    | {"layers", "metrics", "outputs", "prediction", "presets", "serving", "storage", "task_specs", "training"},
    "weights": {"weights", "argument_checks", "config", "models", "data", "storage"},
    "loading": {"serving", "storage", "weights", "keras_support"},
    "evaluate": {"argument_checks", "models"},
    "registered": {"models", "training", "quickstart"},
    "visualize": {"visualize", "argument_checks", "data.image_files", "data.tokenization", "outputs", "storage"},
    "__main__": {"cli"},
    "quickstart": {"quickstart", "argument_checks", "data.reading.tfds"},
    "cli": {"cli", "choices", "evaluate", "storage", "visualize", "data.lines", "data.tokenization", "data_size"}
    | {"argument_checks", "defaults", "training.progress", "presets", "registered", "task_specs", "version"}
    | PUBLIC,
}
# In data/, a directory imports these directories, and data/lines.py and data/batches.py, which import none.
DATA = {
    "tokenization": {"tokenization"},
    "image_files": {"image_files"},
    "reading": {"tokenization", "reading"},
    "batching": {"tokenization", "image_files", "reading", "batching"},
}
# In models/, a directory imports these directories. The files directly in models/ import all of them.
MODELS = {"task_data": {"task_data"}, "task": {"task_data", "task"}, "network": {"network"}}
# In layers/, a file imports only files before it.
LAYERS = (
    *("shapes", "masks", "base", "dropout", "normalization"),
    *("attention", "attention_heads", "multihead", "positions", "relative", "attention_losses"),
    *("embeddings", "transformer_block", "task_heads"),
    *("decoding.step_attention", "decoding.cache", "decoding.merged_dense"),
    *("decoding.blocks", "decoding.relative_blocks", "decoding.stack", "decoding.relative_stack"),
    *("transformer", "two_stream"),
    *("scan", "recurrent.lstm", "recurrent.cells", "recurrent.encoder", "recurrent.step", "recurrent.decoder"),
    *("ngrams", "word_features"),
    *("regions", "image_networks", "image_encoder"),
)
BLOCKED = {"tensorflow", "tensorflow_text", "tensorflow_datasets", "keras_hub"}  # a JAX host may lack them
SOFTMAX_HOMES = ("layers/attention.py", "layers/task_heads.py", "generation/")


def sources() -> list[pathlib.Path]:
    return sorted(ROOT.rglob("*.py"))


def imported(path: pathlib.Path) -> set[str]:
    """Modules of this package that a file imports, without the package's name."""
    return {name for node in ast.walk(ast.parse(path.read_text())) for name in imported_by(node)}


def imported_by(node: ast.AST) -> set[str]:
    """Modules of this package that a statement imports or a string names, without the package's name."""
    names = []
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.module:
        full_names = [f"{node.module}.{alias.name}" for alias in node.names]  # the last part may be a module
        names = [name if file_of(without_package(name)) else node.module for name in full_names]
    elif isinstance(node, ast.Constant) and str(node.value).startswith("keras_attention."):  # for a late import
        names = [node.value] if file_of(without_package(node.value)) else []
    return {without_package(name) for name in names if name.split(".")[0] == "keras_attention"}


def without_package(name: str) -> str:
    return name.removeprefix("keras_attention").lstrip(".")


def file_of(module: str) -> pathlib.Path | None:
    """The file of a module, named without the package's name; None if there is no such module."""
    folder = ROOT.joinpath(*filter(None, module.split(".")))
    return next((path for path in (folder.with_suffix(".py"), folder / "__init__.py") if path.is_file()), None)


def permitted(module: str, allowed: set[str]) -> bool:
    return any(module == name or (name and module.startswith(f"{name}.")) for name in allowed)


RESTRICTED = [path for path in sources() if path != ROOT / "__init__.py"]


@pytest.mark.parametrize("path", RESTRICTED, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_follow_the_allowed_directions(path):
    folder = path.relative_to(ROOT).parts[0].removesuffix(".py")
    wrong = {module for module in imported(path) if not permitted(module, ALLOWED[folder])}
    assert not wrong, f"{folder} may import {sorted(ALLOWED[folder])}"


def test_every_permission_is_used():
    used: dict[str, set[str]] = {}
    for path in sources():
        used.setdefault(path.relative_to(ROOT).parts[0].removesuffix(".py"), set()).update(imported(path))
    unused = {
        (folder, name)
        for folder, names in ALLOWED.items()
        for name in names - {folder}
        if not any(permitted(module, {name}) for module in used[folder])
    }
    assert not unused


def test_no_files_import_each_other_in_a_circle():
    """Imports inside of functions count too; only those of a directory's `__init__.py` by its own files do not."""
    waiting = {path: set(map(file_of, imported(path))) for path in sources()}
    while first := [path for path, files in waiting.items() if not files & waiting.keys()]:
        for path in first:  # it imports only files that were removed before
            del waiting[path]
    assert not waiting


@pytest.mark.parametrize(("parent", "order"), [("data", DATA), ("models", MODELS)])
def test_the_directories_of_data_and_models_have_an_order(parent, order):
    assert set(order) == {path.parent.name for path in (ROOT / parent).glob("*/*.py")}
    files = {path.stem for path in (ROOT / parent).glob("*.py")}
    for folder, allowed in order.items():
        modules = {module for path in (ROOT / parent / folder).glob("*.py") for module in imported(path)}
        inside = {module.removeprefix(f"{parent}.").split(".")[0] for module in modules if permitted(module, {parent})}
        assert (inside - files) | {folder} == allowed, folder


def test_the_files_of_layers_have_an_order():
    paths = [path for path in (ROOT / "layers").rglob("*.py") if path.stem != "__init__"]
    names = [".".join(path.relative_to(ROOT / "layers").with_suffix("").parts) for path in paths]
    assert sorted(names) == sorted(LAYERS)
    for path, name in zip(paths, names, strict=True):
        inside = {module.removeprefix("layers.") for module in imported(path) if permitted(module, {"layers"})}
        assert inside <= set(LAYERS[: LAYERS.index(name)]), name


def public_paths(path: pathlib.Path) -> set[tuple[str, ...]]:
    """The attributes of the package that a file uses: `ka.data.read_lines` -> ("data",) and ("data", "read_lines")."""
    paths = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        while isinstance(node, ast.Attribute):
            names, node = [node.attr, *names], node.value
        if names and isinstance(node, ast.Name) and node.id == "ka":
            paths.add(tuple(names))
    return paths


def test_users_of_the_public_api_use_public_names():
    wrong = set()
    for path in sources():
        for names in public_paths(path):
            owner = keras_attention
            for name in names:
                if isinstance(owner, types.ModuleType) and name not in owner.__all__:
                    wrong.add(f"{path.relative_to(ROOT)}: ka.{'.'.join(names)}")
                owner = getattr(owner, name, None)
    assert not wrong


# Files that use private names of Keras and TensorFlow.
PRIVATE_OF_OTHERS = {
    *("keras_support/keras_patches.py", "serving/precision.py", "serving/tensorflow_loader.py"),
}


def test_a_private_name_is_used_only_in_the_file_that_defines_it():
    """`self._name` may be defined in a base class; methods of a `NamedTuple`, such as `_replace`, are public."""
    users = set()
    for path in sources():
        nodes = list(ast.walk(ast.parse(path.read_text())))
        known = {"_replace", "_asdict", "_fields"} | {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
        known |= {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
        for node in nodes:
            if isinstance(node, ast.Attribute) and re.match("_[^_]", node.attr) and node.attr not in known:
                is_own = ast.unparse(node.value) in ("self", "cls", "super()", "type(self)")
                users |= set() if is_own else {path.relative_to(ROOT).as_posix()}
    assert users == PRIVATE_OF_OTHERS


def imported_at_once(path: pathlib.Path) -> set[str]:
    """The full names of the modules, or of names in modules, that a file imports when it is imported itself."""
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def test_import_reaches_no_file_that_imports_tensorflow():
    reached, waiting = set(), [ROOT / "__init__.py", ROOT / "registered.py"]
    while waiting:
        reached.add(path := waiting.pop())
        names = imported_at_once(path)
        assert not {name.split(".")[0] for name in names} & BLOCKED, path
        ours = [without_package(name) for name in names if name.startswith("keras_attention")]
        parents = [module.rpartition(".")[0] for module in ours]  # imported before the module
        waiting += {file for module in ours + parents if (file := file_of(module)) and file not in reached}
    assert {ROOT / "layers" / "attention.py", ROOT / "models" / "task" / "task.py"} < reached


def called(path: pathlib.Path) -> set[str]:
    """The names of the functions and methods that a module calls."""
    calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    return {getattr(function, "attr", getattr(function, "id", "")) for function in calls}


def test_softmax_is_called_only_in_allowed_modules():
    callers = [path.relative_to(ROOT).as_posix() for path in sources() if called(path) & {"softmax", "log_softmax"}]
    assert not [name for name in callers if not name.startswith(SOFTMAX_HOMES)]


def test_lists_of_expected_values_are_written_by_argument_checks():
    """No f-string writes "one of {...}"; errors use `require_one_of` or `one_of`."""
    wrong = []
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            parts = node.values if isinstance(node, ast.JoinedStr) else []
            texts = [part.value for part, after in itertools.pairwise(parts) if isinstance(after, ast.FormattedValue)]
            if any(isinstance(text, str) and text.lower().endswith("one of ") for text in texts):
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert [name.split(":")[0] for name in wrong] == ["argument_checks.py"], wrong


IMPERATIVES = (
    "Add|Call|Change|Check|Choose|Convert|Copy|Correct|Create|Download|Evaluate|Export|Get|Give|Install|Join|Leave|Load|"
    "Lower|Make|Monitor|Omit|Pass|Remove|Rename|Resize|Restore|Resume|Save|See|Set|Shorten|Start|Train|Try|Use|Write"
)
SAYS_WHAT_TO_DO = re.compile(rf"(?i)\bexpect(ed|s)\b|([.:;,]|^) ?({IMPERATIVES})\b")


def constructed_errors(tree: ast.AST) -> list[ast.Call]:
    """Calls such as `ValueError("...")` and `click.UsageError("...")`, with a message."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args]
    return [call for call in calls if re.search(r"(Error|ClickException)$", ast.unparse(call.func))]


def text_of(node: ast.AST) -> str:
    """The text of a message; in place of a value, the name of its variable."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.FormattedValue):
        return f" {node.value.id} " if isinstance(node.value, ast.Name) else ""
    return "".join(map(text_of, ast.iter_child_nodes(node)))


def test_an_error_says_what_was_expected_or_what_to_do():
    """A message has the word "expected", or a clause that begins with an imperative, or ends with a variable `fix`."""
    wrong = []
    for path in sources():
        for call in constructed_errors(ast.parse(path.read_text())):
            message = " ".join(map(text_of, call.args))
            if " " in message and not SAYS_WHAT_TO_DO.search(message) and not re.search(r"\bfix\b", message):
                wrong.append((path.relative_to(ROOT).as_posix(), message))
    assert [name for name, _ in wrong] == ["lazy.py"], wrong  # its message is that of Python


def test_no_module_is_named_utils_or_helpers():
    assert not [path for path in sources() if path.stem in ("utils", "misc", "helpers", "common")]


def test_import_on_jax_needs_neither_tensorflow_nor_keras_hub_and_replaces_another_floatx(tmp_path):
    """`keras.json` sets the backend and float64, before the import."""
    (tmp_path / "keras.json").write_text('{"backend": "jax", "floatx": "float64"}')
    program = (
        f"import sys; sys.modules |= dict.fromkeys({BLOCKED}); import keras; before = keras.config.floatx()\n"
        "import keras_attention as ka; ka.presets()\n"
        "print(keras.backend.backend(), before, keras.config.floatx(), keras.config.dtype_policy().name)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    environment["KERAS_HOME"] = str(tmp_path)
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["jax", "float64", "float32", "float32"]
    assert "keras_attention replaces floatx 'float64' of keras.json by 'float32'" in done.stderr


def test_the_help_of_a_command_imports_no_large_package():
    program = (
        "import sys; sys.argv[0] = 'bin/keras-attention'\n"
        "from click.testing import CliRunner\n"
        "from keras_attention.cli import _COMMANDS, commands\n"
        "for arguments in (['--version'], ['--help'], *([name, '--help'] for name in _COMMANDS)):\n"
        "    assert CliRunner().invoke(commands, arguments).exit_code == 0, arguments\n"
        "print(sorted({'keras', 'keras_hub', 'matplotlib', 'sacrebleu', 'tensorflow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_the_names_for_type_checkers_are_those_at_run_time():
    for package in (keras_attention, keras_attention.generation, keras_attention.training):
        assert all(hasattr(package, name) for name in package.__all__)


def docstring_shapes() -> list[tuple[str, list[str]]]:
    """Return the shapes in docstrings, such as (B, S, M), with the name of their file."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    nodes = [
        (path.name, n) for path in sources() for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, kinds)
    ]
    texts = [
        (name, shape) for name, n in nodes for shape in re.findall(r"\(([^()]+,[^()]*)\)", ast.get_docstring(n) or "")
    ]
    shapes = [(name, [dim.strip() for dim in shape.split(",")]) for name, shape in texts]
    return [(name, shape) for name, shape in shapes if any(re.fullmatch("[A-Z]", dim) for dim in shape)]


def test_the_letters_of_shapes_are_in_the_glossary():
    shapes_section = (ROOT.parent / "docs" / "glossary.md").read_text().split("## ")[1]
    letters = set(", ".join(re.findall(r"^\| ((?:\w, )*\w) \|", shapes_section, re.MULTILINE)).split(", "))
    shapes = docstring_shapes()
    assert len(shapes) > 100
    assert not [
        (name, shape) for name, shape in shapes if {dim for dim in shape if len(dim) == 1 and dim.isalpha()} - letters
    ]


def test_public_names_exist_and_have_docstrings():
    for name in keras_attention.__all__:
        assert getattr(keras_attention, name).__doc__, name
