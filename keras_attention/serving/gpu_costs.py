"""The cost of a decoding step of an export on a GPU, counted from the graph and TensorFlow's registry of kernels.

No GPU is needed: TensorFlow's package for Linux registers its GPU kernels on a machine without one. The counts are
those of the file; a server optimizes the graph and may place an operation differently.
"""

from __future__ import annotations

import collections
import dataclasses
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

_LOOPS = ("While", "StatelessWhile")
_FREE = ("Const", "Identity", "IdentityN", "NoOp")  # no kernel is launched for them


@dataclasses.dataclass(frozen=True)
class StepCost:
    """The operations of one decoding step, counted in the graph, and those that slow it down on a GPU.

    Attributes:
        operations: number of operations, without constants and identities.
        without_kernel: type of operation -> number of operations of this type, for types that run on the CPU only.
        in_host_memory: type of operation -> number, for types whose result is in host memory, such as shapes.
        transfers: number of tensors copied between host and GPU, without the condition of the loop.

    Example:
        >>> StepCost(95, without_kernel={}, in_host_memory={"Shape": 3}, transfers=0).operations
        95
    """

    operations: int
    without_kernel: dict[str, int]
    in_host_memory: dict[str, int]
    transfers: int


def step_costs(path: str | pathlib.Path) -> dict[str, StepCost | None]:
    """Return the cost of a step for each signature of an export; None for a signature without a decode loop.

    Args:
        path: a version directory, such as `serving/translator/1`.

    Returns:
        dict of signature names to a `StepCost` or None.

    Raises:
        ValueError: the SavedModel cannot be read.
        RuntimeError: this TensorFlow registers no GPU kernels.

    Example:
        >>> step_costs("serving/translator/1")["serving_default"].transfers  # doctest: +SKIP
        0
    """
    from tensorflow.python.framework import kernels

    from keras_attention.serving.check import read_saved_model

    if all(kernel.device_type != "GPU" for kernel in kernels.get_registered_kernels_for_op("MatMul").kernel):
        raise RuntimeError("This TensorFlow has no GPU kernels to look up. Use the package `tensorflow` on Linux.")
    meta_graph, problems = read_saved_model(pathlib.Path(path))
    if meta_graph is None:
        raise ValueError(f"{path}: {'; '.join(problems)}. Export the model again.")
    functions = {function.signature.name: function for function in meta_graph.graph_def.library.function}
    nodes = {node.name: node for node in meta_graph.graph_def.node}
    costs: dict[str, StepCost | None] = {}
    for name, signature in meta_graph.signature_def.items():
        if name.startswith("__"):
            continue
        callers = {nodes[info.name.split(":")[0]].name for info in signature.outputs.values()}
        bodies = set(_innermost_bodies((nodes[caller] for caller in sorted(callers)), functions))
        steps = [step_cost(functions[body]) for body in sorted(bodies)]  # a recurrent encoder has shorter steps
        costs[name] = max(steps, key=lambda step: step.operations, default=None)
    return costs


def _innermost_bodies(nodes: Any, functions: Mapping[str, Any], inside: str | None = None) -> Iterator[str]:
    """Yield the names of the bodies of the innermost loops with matrix products; tokenizers have loops too."""
    for node in nodes:
        if inside is not None and "MatMul" in node.op:
            yield inside
        for key, attr in sorted(node.attr.items()):
            if attr.HasField("func") and key != "cond":
                name = attr.func.name
                yield from _innermost_bodies(functions[name].node_def, functions, name if node.op in _LOOPS else inside)


def step_cost(function: Any) -> StepCost:
    """Count the operations of the body of a loop.

    Args:
        function: a `FunctionDef`.
    """
    kernels = {node.name: _gpu_kernel(node) for node in function.node_def}
    counted = [(node, kernels[node.name]) for node in function.node_def if node.op not in _FREE]
    without_kernel = collections.Counter(node.op for node, kernel in counted if kernel is None)
    in_host_memory = collections.Counter(node.op for node, kernel in counted if kernel and _writes_host(node, kernel))
    return StepCost(len(counted), dict(without_kernel), dict(in_host_memory), len(_transfers(function, kernels)))


def _transfers(function: Any, kernels: Mapping[str, Any]) -> set[tuple[str, bool]]:
    """Return the tensors that are copied, each with whether it is copied to the host.

    Loop variables of integers and strings are in host memory. Handles of variables are not copied.
    """
    from tensorflow.dtypes import int32, resource, string, variant

    types = {arg.name: arg.type for arg in function.signature.input_arg}

    def is_in_host(source: str) -> bool:
        producer, _, output = source.partition(":")
        if producer in types:
            return types[producer] in (int32, string)
        return kernels[producer] is None or output.split(":")[0] in kernels[producer].host_memory_arg

    reads = [(function.ret[arg.name], arg.type in (int32, string)) for arg in function.signature.output_arg]
    for node in function.node_def:
        kernel = kernels[node.name]
        arguments = zip(node.input, _input_arguments(node), strict=False)  # control inputs come last
        reads += [(source, kernel is None or argument in kernel.host_memory_arg) for source, argument in arguments]
    copied = [read for read in reads if types.get(read[0].partition(":")[0]) not in (resource, variant)]
    return {(source, to_host) for source, to_host in copied if is_in_host(source) != to_host}


def _gpu_kernel(node: Any) -> Any:
    """Return the registered GPU kernel of a node, or None. `DEFAULT` kernels run on every device."""
    from tensorflow.python.framework import kernels

    registered = [
        k for k in kernels.get_registered_kernels_for_op(node.op).kernel if k.device_type in ("GPU", "DEFAULT")
    ]
    matching = [kernel for kernel in registered if _accepts(kernel, node)]
    return max(matching, key=lambda kernel: (kernel.device_type == "GPU", kernel.priority), default=None)


def _accepts(kernel: Any, node: Any) -> bool:
    """Return whether the types of a node are among those of a kernel; a file omits default types."""
    defaults = {attr.name: attr.default_value for attr in _definition(node).attr}
    for constraint in kernel.constraint:
        attr = node.attr[constraint.name] if constraint.name in node.attr else defaults[constraint.name]
        if not set(attr.list.type or [attr.type]) <= set(constraint.allowed_values.list.type):
            return False
    return True


def _writes_host(node: Any, kernel: Any) -> bool:
    return any(arg.name in kernel.host_memory_arg for arg in _definition(node).output_arg)


def _definition(node: Any) -> Any:
    from tensorflow.python.framework import op_def_registry

    return op_def_registry.get(node.op)


def _input_arguments(node: Any) -> Iterator[str]:
    """Yield the name of the argument of each input of a node."""
    for arg in _definition(node).input_arg:
        count = node.attr[arg.number_attr].i if arg.number_attr else 1
        count = len(node.attr[arg.type_list_attr].list.type) if arg.type_list_attr else count
        yield from [arg.name] * count
