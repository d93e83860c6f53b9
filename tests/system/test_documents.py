"""A JSON document that others may have written is parsed, or is a `ValueError`."""

import pytest

from pytest_pyinstall.system.documents import parse_json


@pytest.mark.parametrize("text", ['{"a": [1]}', b'{"a": [1]}'])
def test_a_document_is_parsed(text: bytes | str) -> None:
    assert parse_json(text) == {"a": [1]}


@pytest.mark.parametrize(("text", "reason"), [("[" * 100_000, "nested too deeply"), ("{", "Expecting property name")])
def test_p11_what_cannot_be_parsed_is_a_value_error(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_json(text)
