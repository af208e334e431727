"""A program: run the TensorFlow loader for many exports in one process, with one request and one result per line.

It does not optimize the graphs: this takes longer than to run them. The fixture `own_process` runs the loader as it is.
"""

import contextlib
import ctypes
import importlib.util
import io
import sys

# `ConfigProto(graph_options={"rewrite_options": {"disable_meta_optimizer": True}})`, serialized
NO_OPTIMIZATION = bytes([0x52, 5, 0x52, 3, 0x98, 1, 1])


def without_optimization(kind: type) -> type:
    """Return the class of the loader, with options of a session that do not optimize graphs."""

    class Loader(kind):
        def _declare(self):
            super()._declare()
            make_options, set_config = self.tf.TF_NewSessionOptions, self.tf.TF_SetConfig
            set_config.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_void_p]

            def options():
                made, status = make_options(), self.tf.TF_NewStatus()
                set_config(made, NO_OPTIMIZATION, len(NO_OPTIMIZATION), status)
                assert self.tf.TF_GetCode(status) == 0
                return made

            self.tf.TF_NewSessionOptions = options

    return Loader


def main(program: str) -> None:
    """Print for each input line what `program`, the file of the TensorFlow loader, prints for it."""
    spec = importlib.util.spec_from_file_location("tensorflow_loader", program)
    loader = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loader)
    loader.TensorFlowLoader = without_optimization(loader.TensorFlowLoader)
    requests, output = sys.stdin, sys.stdout
    for request in requests:
        sys.stdin = io.StringIO(request)
        with contextlib.redirect_stdout(io.StringIO()) as result:
            loader.main()
        print(result.getvalue(), file=output, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
