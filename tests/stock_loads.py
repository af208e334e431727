"""A program: the stock loader for many exports, a request a line and an answer a line, in one process."""

import contextlib
import importlib.util
import io
import sys


def main(program: str) -> None:
    """Answer each line as `program`, the stock loader's file, answers its standard input."""
    spec = importlib.util.spec_from_file_location("stock_loader", program)
    loader = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loader)
    requests, answers = sys.stdin, sys.stdout
    for request in requests:
        sys.stdin = io.StringIO(request)
        with contextlib.redirect_stdout(io.StringIO()) as answer:
            loader.main()
        print(answer.getvalue(), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
