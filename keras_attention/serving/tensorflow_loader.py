"""Run a SavedModel as an unmodified TensorFlow Serving does: in C++, with XLA disabled, without Python's TensorFlow.

This file is a program for a separate process. It reads one JSON request from standard input,

    {"libraries": [...], "op_libraries": [...], "export": DIRECTORY,
     "outputs": {name: tensor}, "batches": [{tensor: {"dtype": ..., "values": ...}}, ...]}

and writes one JSON object to standard output: `results`, one `{name: values}` per batch, or `{"error": ...}`; and
`python_tensorflow`, true if the process imported Python's TensorFlow. It calls the C API of the library in the
TensorFlow wheel with ctypes.
"""

from __future__ import annotations

import ctypes
import itertools
import json
import struct
import sys

STRING = 7
_NAMES = {
    "float32": 1, "float64": 2, "int32": 3, "uint8": 4, "int16": 5, "int8": 6, "string": STRING, "int64": 9, "bool": 10,
    "uint16": 17, "float16": 19, "uint32": 22, "uint64": 23,
}  # fmt: skip
_FORMATS = dict(zip((1, 2, 3, 4, 5, 6, 9, 10, 17, 19, 22, 23), "fdiBhbq?HeIQ", strict=True))  # as in `struct`
_STRING_BYTES = 24  # sizeof(TF_TString)


class _Output(ctypes.Structure):
    _fields_ = [("operation", ctypes.c_void_p), ("index", ctypes.c_int)]


class TensorFlowLoader:
    """A SavedModel in a session of TensorFlow's C API.

    Args:
        libraries: `libtensorflow_framework.so.2` and `libtensorflow_cc.so.2`, in this order.
        op_libraries: shared libraries with more ops, such as those of TF-Text.
        export: the SavedModel's directory.

    Raises:
        RuntimeError: a library or the SavedModel cannot be loaded.
    """

    def __init__(self, libraries: list[str], op_libraries: list[str], export: str) -> None:
        self.tf = [ctypes.CDLL(path, mode=ctypes.RTLD_LOCAL) for path in libraries][-1]
        self._declare()
        self.tf._ZN10tensorflow21DisableXlaCompilationEv()
        self.status = self.tf.TF_NewStatus()
        for path in op_libraries:
            self.tf.TF_LoadLibrary(path.encode(), self.status)
            self._check()
        self.graph = self.tf.TF_NewGraph()
        tags = (ctypes.c_char_p * 1)(b"serve")
        options = self.tf.TF_NewSessionOptions()
        self.session = self.tf.TF_LoadSessionFromSavedModel(
            options, None, export.encode(), tags, 1, self.graph, None, self.status
        )
        self._check()

    def _declare(self) -> None:
        pointers = (
            "TF_NewStatus TF_NewGraph TF_NewSessionOptions TF_LoadLibrary TF_LoadSessionFromSavedModel "
            "TF_GraphOperationByName TF_AllocateTensor TF_TensorData TF_StringGetDataPointer"
        )
        for name in pointers.split():
            getattr(self.tf, name).restype = ctypes.c_void_p
        self.tf.TF_Message.restype = ctypes.c_char_p
        self.tf.TF_Dim.restype = ctypes.c_int64
        self.tf.TF_StringGetSize.restype = ctypes.c_size_t
        self.tf.TF_NewStatus.argtypes = []
        self.tf.TF_GetCode.argtypes = self.tf.TF_Message.argtypes = [ctypes.c_void_p]
        self.tf.TF_LoadLibrary.argtypes = [ctypes.c_char_p, ctypes.c_void_p]
        self.tf.TF_LoadSessionFromSavedModel.argtypes = [
            ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int,
            ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p,
        ]  # fmt: skip
        self.tf.TF_GraphOperationByName.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        self.tf.TF_AllocateTensor.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
        for name in ("TF_TensorData", "TF_NumDims", "TF_TensorType", "TF_DeleteTensor"):
            getattr(self.tf, name).argtypes = [ctypes.c_void_p]
        self.tf.TF_Dim.argtypes = [ctypes.c_void_p, ctypes.c_int]
        for name in ("TF_StringInit", "TF_StringGetDataPointer", "TF_StringGetSize"):
            getattr(self.tf, name).argtypes = [ctypes.c_void_p]
        self.tf.TF_StringCopy.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
        self.tf.TF_SessionRun.argtypes = [
            ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p,
            ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p,
        ]  # fmt: skip

    def _check(self) -> None:
        if self.tf.TF_GetCode(self.status):
            message = self.tf.TF_Message(self.status).decode("utf-8", "replace")
            raise RuntimeError(f"TensorFlow's C++ library: {message.rstrip('.')}; expected an export that it can load.")

    def _find(self, names: list[str]) -> ctypes.Array:
        outputs = (_Output * len(names))()
        for slot, name in zip(outputs, names, strict=True):
            operation, _, index = name.partition(":")
            slot.operation = self.tf.TF_GraphOperationByName(self.graph, operation.encode())
            slot.index = int(index or 0)
            if not slot.operation:
                raise RuntimeError(
                    f"The graph has no operation {operation}; expected one for each input and output of the signature. "
                    "Export the model again."
                )
        return outputs

    def run(self, feeds: dict[str, dict], fetches: dict[str, str]) -> dict[str, list]:
        """Run the graph once.

        Args:
            feeds: dict of tensor names to `{"dtype": ..., "values": nested list}`.
            fetches: dict of output names to tensor names.

        Returns:
            dict of output names to nested lists; strings are decoded as UTF-8.
        """
        inputs, outputs = self._find(list(feeds)), self._find(list(fetches.values()))
        tensors = (ctypes.c_void_p * len(feeds))(*[self._tensor(feed) for feed in feeds.values()])
        results = (ctypes.c_void_p * len(fetches))()
        self.tf.TF_SessionRun(
            self.session, None, inputs, tensors, len(feeds), outputs, results, len(fetches), None, 0, None, self.status
        )
        for tensor in tensors:
            self.tf.TF_DeleteTensor(tensor)
        self._check()
        return {name: self._values(tensor) for name, tensor in zip(fetches, results, strict=True)}

    def _tensor(self, feed: dict) -> int:
        shape, flat = [], feed["values"]
        while isinstance(flat, list):
            shape.append(len(flat))
            flat = flat[0] if flat else None
        flat = feed["values"]
        for _ in shape[1:]:
            flat = list(itertools.chain.from_iterable(flat))
        flat = flat if shape else [flat]
        dtype = _NAMES.get(feed["dtype"])
        if dtype is None:
            raise RuntimeError(
                f"An input has the type {feed['dtype']}; expected {', '.join(_NAMES)}. Cast it to one of these."
            )
        size = _STRING_BYTES if dtype == STRING else struct.calcsize(_FORMATS[dtype])
        dims = (ctypes.c_int64 * len(shape))(*shape)
        tensor = self.tf.TF_AllocateTensor(dtype, dims, len(shape), size * len(flat))
        data = self.tf.TF_TensorData(tensor)
        if dtype != STRING:
            ctypes.memmove(data, struct.pack(f"{len(flat)}{_FORMATS[dtype]}", *flat), size * len(flat))
            return tensor
        for i, text in enumerate(flat):
            slot, raw = data + i * _STRING_BYTES, text.encode("utf-8", "surrogateescape")
            self.tf.TF_StringInit(slot)
            self.tf.TF_StringCopy(slot, raw, len(raw))
        return tensor

    def _values(self, tensor: int) -> list:
        shape = [self.tf.TF_Dim(tensor, i) for i in range(self.tf.TF_NumDims(tensor))]
        count = 1
        for dim in shape:
            count *= dim
        dtype, data = self.tf.TF_TensorType(tensor), self.tf.TF_TensorData(tensor)
        if dtype == STRING:
            slots = [data + i * _STRING_BYTES for i in range(count)]
            flat = [
                ctypes.string_at(self.tf.TF_StringGetDataPointer(p), self.tf.TF_StringGetSize(p)).decode(
                    "utf-8", "replace"
                )
                for p in slots
            ]
        elif dtype in _FORMATS:
            layout = f"{count}{_FORMATS[dtype]}"
            flat = list(struct.unpack(layout, ctypes.string_at(data, struct.calcsize(layout)))) if count else []
        else:
            raise RuntimeError(
                f"An output has the type {dtype} of TensorFlow's C API; expected {', '.join(_NAMES)}. Cast the output "
                "to one of these in the signature."
            )
        self.tf.TF_DeleteTensor(tensor)
        return _nest(flat, shape)


def _nest(flat: list, shape: list[int]) -> list:
    if len(shape) < 2:
        return flat if shape else flat[0]
    size = len(flat) // shape[0] if shape[0] else 0
    return [_nest(flat[i * size : (i + 1) * size], shape[1:]) for i in range(shape[0])]


def main() -> None:
    """Run the request on standard input."""
    request = json.load(sys.stdin)
    try:
        loader = TensorFlowLoader(request["libraries"], request["op_libraries"], request["export"])
        results = [loader.run(batch, request["outputs"]) for batch in request["batches"]]
    except (RuntimeError, OSError) as error:
        results = {"error": str(error)}
    json.dump({"results": results, "python_tensorflow": "tensorflow" in sys.modules}, sys.stdout)


if __name__ == "__main__":
    main()
