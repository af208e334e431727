"""A program: run the TensorFlow loader for many exports in one process, with one request and one result per line."""

import contextlib
import importlib.util
import io
import sys


def main(program: str) -> None:
    """Print for each input line what `program`, the file of the TensorFlow loader, prints for it."""
    spec = importlib.util.spec_from_file_location("tensorflow_loader", program)
    loader = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loader)
    requests, output = sys.stdin, sys.stdout
    for request in requests:
        sys.stdin = io.StringIO(request)
        with contextlib.redirect_stdout(io.StringIO()) as result:
            loader.main()
        print(result.getvalue(), file=output, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
