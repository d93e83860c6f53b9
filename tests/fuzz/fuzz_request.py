"""Fuzzes the parser of requests with atheris: it returns requests or raises an `InvalidRequestError`.

Run it by hand: ``python tests/fuzz/fuzz_request.py [-max_total_time=60]`` (needs atheris).
"""

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["pytest_pyinstall", "packaging"]):
    from pytest_pyinstall.errors import InvalidRequestError
    from pytest_pyinstall.request.request import Request, parse_requests


def one_input(data: bytes) -> None:
    text = atheris.FuzzedDataProvider(data).ConsumeUnicode(200)
    try:
        requests = parse_requests([text], directory=Path("/project"), origin="fuzz")
    except InvalidRequestError as error:
        assert error.message  # noqa: PT017  # no pytest here
        return
    for request in requests:
        assert isinstance(request, Request)
        assert request.text or request.path


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
