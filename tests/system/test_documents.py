"""A JSON document that others may have written is parsed, or is a `ValueError`."""

import ast
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest

from pytest_pyinstall.system.documents import parse_json, parse_python


@pytest.mark.parametrize("text", ['{"a": [1]}', b'{"a": [1]}'])
def test_a_document_is_parsed(text: bytes | str) -> None:
    assert parse_json(text) == {"a": [1]}


@pytest.mark.parametrize(("text", "reason"), [("[" * 100_000, "nested too deeply"), ("{", "Expecting property name")])
def test_p11_what_cannot_be_parsed_is_a_value_error(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_json(text)


def test_python_code_of_others_is_parsed_without_warnings(recwarn: pytest.WarningsRecorder) -> None:
    warnings.simplefilter("error")
    assert isinstance(parse_python(b"pattern = '\\s'\n").body[0], ast.Assign)
    with pytest.raises(SyntaxError):
        parse_python("def")
    assert not recwarn.list


def test_python_code_can_be_parsed_in_several_threads() -> None:
    # CPython 3.11 raises SystemError if two threads parse at once: gh-106905.
    source = "x = [" + "[0], " * 3000 + "]"
    with ThreadPoolExecutor(4) as executor:
        trees = list(executor.map(parse_python, [source] * 12))
    assert len(trees) == 12
