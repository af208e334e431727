"""Check that an unmodified TensorFlow Serving can run an export: read the SavedModel, then run it in a new process."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import pathlib
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from keras_attention.storage import local_path

_PYTHON_OPS = ("PyFunc", "PyFuncStateless", "EagerPyFunc")
_RUNTIME_OPS = ("Placeholder", "NoOp")


@dataclasses.dataclass(frozen=True)
class CheckReport:
    """The result of a check.

    Attributes:
        path: the SavedModel's directory.
        problems: one line per problem; empty if an unmodified TensorFlow Serving can run the SavedModel.
        signatures: dict of signature names to descriptions "inputs -> outputs".
        outputs: dict of output names to the values that the C++ loader computed for the test batch.

    Example:
        >>> CheckReport("serving/translator/1", ("the op PyFunc needs Python",), signatures={}, outputs={}).ok
        False
    """

    path: str
    problems: tuple[str, ...]
    signatures: dict[str, str]
    outputs: dict[str, Any]

    @property
    def ok(self) -> bool:
        """True if there are no problems."""
        return not self.problems


def check_export(path: str | pathlib.Path, examples: Sequence[str | bytes] | None = None) -> CheckReport:
    """Check that an unmodified TensorFlow Serving can run a SavedModel.

    First, the file is checked: it has the tag `serve`; no op needs XLA or Python; each op has a CPU kernel in
    TensorFlow or TF-Text; and in each signature, axis 0 of each input and output is a batch of any size. Then the C++
    loader runs `serving_default` in a new process, with XLA disabled and without Python's TensorFlow. It runs a batch
    of all examples, and a batch of only the first one.

    Args:
        path: a version directory, such as `serving/translator/1`.
        examples: string inputs of `serving_default`: texts, or encoded images for `image_bytes`. By default a phrase
            and an empty string, or an image and bytes that are not an image. Integer inputs are 0.

    Returns:
        a `CheckReport`.

    Raises:
        FileNotFoundError: there is no such directory.
        ValueError: the directory contains no SavedModel, or `examples` is empty.

    Example:
        >>> model = ka.TextClassifier.from_examples([("we eat", "yes"), ("they drink", "no")], units=12)
        >>> ka.check_export(model.export("serving/classifier")).ok
        True
    """
    if examples is not None and not len(examples):
        raise ValueError("`examples` is empty; expected at least one example, or None for built-in ones.")
    path = local_path(path)
    if not (path / "saved_model.pb").is_file():
        raise no_saved_model(path)
    meta_graph, problems = read_saved_model(path)
    if meta_graph is None:
        return CheckReport(str(path), tuple(problems), {}, {})
    signatures = {name: s for name, s in meta_graph.signature_def.items() if not name.startswith("__")}
    problems += [*_graph_problems(meta_graph), *_signature_problems(signatures)]
    outputs: dict[str, Any] = {}
    if "serving_default" in signatures:
        outputs, failures = _run(path, signatures["serving_default"], examples)
        problems += failures
    described = {name: _describe(signature) for name, signature in signatures.items()}
    return CheckReport(str(path), tuple(problems), described, outputs)


def no_saved_model(path: pathlib.Path) -> Exception:
    """Return the error for a path that is no version directory of an export."""
    expected = "expected a version directory that `keras-attention export` wrote, such as serving/translator/1"
    if not path.exists():
        return FileNotFoundError(f"There is no directory {path}; {expected}.")
    if path.is_file():
        return ValueError(f"{path} is a file; {expected}. Export it first: keras-attention export {path} DIRECTORY")
    versions = sorted(str(model.parent) for model in path.glob("*/saved_model.pb"))
    hint = f" Its versions are {', '.join(versions)}." if versions else ""
    return ValueError(f"{path} contains no SavedModel (no saved_model.pb); {expected}.{hint}")


def read_saved_model(path: pathlib.Path) -> tuple[Any, list[str]]:
    """Return the graph with the tag `serve`, or None, and the problems of the file, one line each."""
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    saved_model = saved_model_pb2.SavedModel()
    try:
        saved_model.ParseFromString((path / "saved_model.pb").read_bytes())
    except DecodeError:
        return None, ["saved_model.pb cannot be read; export the model again"]
    problems = [] if path.resolve().name.isdigit() else [f"the directory is called {path}; a server expects an integer"]
    for meta_graph in saved_model.meta_graphs:
        if set(meta_graph.meta_info_def.tags) == {"serve"}:
            return meta_graph, problems
    return None, [*problems, "no graph has `serve` as its only tag"]


def _nodes(meta_graph: Any) -> Iterator[tuple[str, Any]]:
    yield from (("the main graph", node) for node in meta_graph.graph_def.node)
    for function in meta_graph.graph_def.library.function:
        yield from ((function.signature.name, node) for node in function.node_def)


def _graph_problems(meta_graph: Any) -> Iterator[str]:
    """Yield a line for each kind of op that an unmodified TensorFlow Serving cannot run."""
    import tensorflow_text  # noqa: F401  (registers its kernels, which the server has)
    from tensorflow.python.framework import kernels

    from keras_attention.serving.precision import INT8_OP

    functions = {function.signature.name for function in meta_graph.graph_def.library.function}
    for function in meta_graph.graph_def.library.function:
        if function.attr["_XlaMustCompile"].b:
            yield f"the function {function.signature.name} must be compiled by XLA, which a server disables"
    reported: set[str] = set()
    for where, node in _nodes(meta_graph):
        if node.attr["_XlaMustCompile"].b and "_XlaMustCompile" not in reported:
            reported.add("_XlaMustCompile")
            yield f"{node.name} in {where} must be compiled by XLA, which a server disables"
        if node.op in reported or node.op in functions:
            continue
        reported.add(node.op)
        if node.op.startswith("Xla"):
            yield f"the op {node.op} ({node.name} in {where}) needs XLA, which a server disables"
        elif node.op in _PYTHON_OPS:
            yield f"the op {node.op} ({node.name} in {where}) calls Python, which a server does not have"
        elif node.op in _RUNTIME_OPS or _has_cpu_kernel(kernels, node.op):
            continue
        elif node.op == INT8_OP:
            yield "products in int8 need an x86 processor and TensorFlow with oneDNN; export again in float32"
        else:
            yield f"the op {node.op} ({node.name} in {where}) has no CPU kernel in TensorFlow or TF-Text"


def _has_cpu_kernel(kernels: Any, op: str) -> bool:
    return any(kernel.device_type in ("CPU", "DEFAULT") for kernel in kernels.get_registered_kernels_for_op(op).kernel)


def _signature_problems(signatures: dict[str, Any]) -> Iterator[str]:
    if "serving_default" not in signatures:
        yield "there is no signature serving_default"
    for name, signature in signatures.items():
        for kind, tensors in (("input", signature.inputs), ("output", signature.outputs)):
            for key, info in tensors.items():
                shape = info.tensor_shape
                if shape.unknown_rank:
                    yield f"{name}: the {kind} {key} has an unknown rank; expected the batch as axis 0"
                elif not shape.dim or shape.dim[0].size != -1:
                    sizes = [dim.size for dim in shape.dim]
                    yield f"{name}: the {kind} {key} has the shape {sizes}; expected a batch of any size (-1) as axis 0"


def _describe(signature: Any) -> str:
    def names(tensors: Any) -> str:
        return ", ".join(
            f"{key} ({', '.join('?' if d.size < 0 else str(d.size) for d in info.tensor_shape.dim)})"
            for key, info in sorted(tensors.items())
        )

    return f"{names(signature.inputs)} -> {names(signature.outputs)}"


def _run(
    path: pathlib.Path, signature: Any, examples: Sequence[str | bytes] | None
) -> tuple[dict[str, Any], list[str]]:
    """Run all examples, and the first one alone, in the C++ loader."""
    from tensorflow.dtypes import as_dtype

    from keras_attention.serving.signatures import EXAMPLES, example_image

    if examples is None:
        examples = [example_image(67), b"not an image"] if "image_bytes" in signature.inputs else EXAMPLES

    def batch(rows: Sequence[str | bytes]) -> dict[str, dict]:
        feeds = {}
        for info in signature.inputs.values():
            dtype = as_dtype(info.dtype).name
            values: list = [_as_text(row) for row in rows] if dtype == "string" else [0] * len(rows)
            for dim in info.tensor_shape.dim[1:]:
                values = [[value] * max(dim.size, 1) for value in values]
            shaped = values if info.tensor_shape.dim else values[0]
            feeds[info.name] = {"dtype": dtype, "values": shaped}
        return feeds

    names = {name: info.name for name, info in signature.outputs.items()}
    results = run_tensorflow_loader(path, names, [batch(examples), batch(examples[:1])])
    if isinstance(results, dict):
        return {}, [f"the C++ loader failed: {results['error'].splitlines()[0]}"]
    problems = []
    for rows, outputs in zip((len(examples), 1), results, strict=True):
        for name, values in outputs.items():
            if not isinstance(values, list) or len(values) != rows:
                problems.append(f"for a batch of the size {rows}, axis 0 of the output {name} is not the batch")
    return results[0], problems


def _as_text(value: str | bytes) -> str:
    """Return bytes as a string for JSON, which the loader turns back into the same bytes."""
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value


def run_tensorflow_loader(
    path: str | pathlib.Path, outputs: dict[str, str], batches: list[dict[str, dict]]
) -> list[dict[str, list]] | dict[str, str]:
    """Run a SavedModel in the C++ loader, with XLA disabled, in a process without Python's TensorFlow.

    Args:
        path: the SavedModel's directory.
        outputs: dict of output names to tensor names.
        batches: one dict per batch, of input tensor names to `{"dtype": ..., "values": nested list}`.

    Returns:
        one dict per batch, of output names to nested lists; or `{"error": message}`.

    Raises:
        RuntimeError: TensorFlow or TF-Text is not installed.
    """
    request = {
        **loader_libraries(),
        "export": str(pathlib.Path(path).resolve()),
        "outputs": outputs,
        "batches": batches,
    }
    program = pathlib.Path(__file__).with_name("tensorflow_loader.py")
    process = subprocess.run(
        [sys.executable, str(program)], input=json.dumps(request), capture_output=True, text=True, check=False
    )
    if process.returncode:
        return {"error": f"the process ended with {process.returncode}: {process.stderr.strip()[-500:]}"}
    reply = json.loads(process.stdout)
    if reply["python_tensorflow"]:
        raise RuntimeError(
            "The process of the C++ loader imported Python's TensorFlow; expected a process without it. Remove what "
            "imports it when Python starts, such as a sitecustomize.py."
        )
    return reply["results"]


def loader_libraries() -> dict[str, list[str]]:
    """Return the shared libraries of the C++ loader, `libraries`, and of TF-Text, `op_libraries`.

    Raises:
        RuntimeError: TensorFlow or TF-Text is not installed.
    """
    tensorflow, text = (_package_directory(name) for name in ("tensorflow", "tensorflow_text"))
    return {
        "libraries": [str(tensorflow / f"libtensorflow_{part}.so.2") for part in ("framework", "cc")],
        "op_libraries": sorted(str(file) for file in (text / "python" / "ops").glob("*.so")),
    }


def serving_tensors(path: str | pathlib.Path) -> tuple[dict[str, str], dict[str, str]]:
    """Return the inputs and outputs of `serving_default`, as dicts of names to tensor names.

    Raises:
        ValueError: the SavedModel has no such signature.
    """
    meta_graph, problems = read_saved_model(pathlib.Path(path))
    if meta_graph is None or "serving_default" not in meta_graph.signature_def:
        raise ValueError(
            f"{path}: {'; '.join(problems) or 'there is no signature serving_default'}. Export the model again."
        )
    signature = meta_graph.signature_def["serving_default"]
    return tuple({name: info.name for name, info in side.items()} for side in (signature.inputs, signature.outputs))


def _package_directory(name: str) -> pathlib.Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise RuntimeError(
            f"The package {name} is not installed, but the check needs its C++ library. Install it with: pip install "
            f"{name.replace('_', '-')}"
        )
    return pathlib.Path(spec.origin).parent
