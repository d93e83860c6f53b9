"""`Value` behaves like a frozen dataclass, but does not import `dataclasses`."""

import copy
import dataclasses
import pickle
import subprocess
import sys

import pytest

from pytest_pyinstall.system.values import Value, replace


class Point(Value):
    x: int
    name: str = "origin"
    y: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Reference:
    x: int
    name: str = "origin"
    y: int


POINT = Point(x=1, y=2)


def test_a_value_has_its_fields_and_defaults() -> None:
    assert (POINT.x, POINT.name, POINT.y) == (1, "origin", 2)
    assert repr(POINT) == "Point(x=1, name='origin', y=2)"
    assert repr(_Reference(x=1, y=2)) == "_Reference(x=1, name='origin', y=2)"


@pytest.mark.parametrize("fields", [{}, {"x": 1}, {"x": 1, "y": 2, "z": 3}])
def test_a_missing_or_unknown_field_is_a_type_error(fields: dict[str, int]) -> None:
    for kind in (Point, _Reference):
        with pytest.raises(TypeError, match=r"z|y"):
            kind(**fields)  # type: ignore[arg-type]


def test_a_value_is_frozen() -> None:
    for name in ("x", "z"):
        with pytest.raises(AttributeError, match="frozen"):
            setattr(POINT, name, 3)
        with pytest.raises(AttributeError, match="frozen"):
            delattr(POINT, name)
    assert POINT.x == 1


def test_values_of_one_class_with_equal_fields_are_equal() -> None:
    class Other(Point):
        pass

    assert Point(x=1, y=2, name="origin") == POINT
    assert hash(POINT) == hash(Point(x=1, y=2))
    assert Point(x=1, y=3) != POINT
    assert Other(x=1, y=2) != POINT
    assert POINT != (1, "origin", 2)
    assert len({POINT, Point(x=1, y=2), Point(x=2, y=2)}) == 2


def test_a_value_can_be_copied_pickled_and_replaced() -> None:
    assert copy.deepcopy(POINT) == POINT
    assert pickle.loads(pickle.dumps(POINT)) == POINT
    assert replace(POINT, x=7) == Point(x=7, y=2)
    with pytest.raises(TypeError):
        replace(POINT, z=7)


def test_functions_of_dataclasses_accept_a_value() -> None:
    assert dataclasses.is_dataclass(POINT)
    assert dataclasses.replace(POINT, x=7) == Point(x=7, y=2)
    assert dataclasses.asdict(POINT) == {"x": 1, "name": "origin", "y": 2}
    assert [field.name for field in dataclasses.fields(Point)] == ["x", "name", "y"]


def test_a_subclass_adds_fields() -> None:
    class Solid(Point):
        z: int = 0

    assert Solid(x=1, y=2, z=3).z == 3
    assert repr(Solid(x=1, y=2)).endswith("(x=1, name='origin', y=2, z=0)")


def test_dataclasses_is_not_imported() -> None:
    code = "import sys, pytest_pyinstall.system.values; print('dataclasses' in sys.modules, 'inspect' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
