"""Frozen values with named fields, for the modules that every command imports.

A `dataclass` costs 0.6 ms at import, because its methods are compiled then, and imports `inspect`. A command that has
nothing to do would spend a third of its time on them.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar, dataclass_transform

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from dataclasses import Field

__all__ = ["Value", "replace"]


class _DataclassFields:
    """The attribute that `dataclasses.replace`, `fields` and `asdict` read. It is made when they read it."""

    def __get__(self, _: object, owner: type[Value]) -> Mapping[str, Field[Any]]:
        import dataclasses

        rows = [(name, Any, dataclasses.field(**_default_of(owner, name))) for name in owner._names]  # noqa: SLF001
        made: Any = dataclasses.make_dataclass(owner.__name__, rows, kw_only=True)
        fields: Mapping[str, Field[Any]] = made.__dataclass_fields__
        return fields


def _default_of(owner: type[Value], name: str) -> dict[str, Any]:
    if name in owner._required:  # noqa: SLF001
        return {}
    default = getattr(owner, name)
    return {"default_factory": lambda: default}


@dataclass_transform(frozen_default=True, kw_only_default=True)
class Value:
    """Works like a frozen dataclass with keyword arguments. The annotations of the class are its fields.

    It has no `slots` and no `field()`. A default must be immutable.
    """

    if TYPE_CHECKING:
        __dataclass_fields__: ClassVar[dict[str, Field[Any]]]
    else:
        __dataclass_fields__ = _DataclassFields()

    _names: ClassVar[tuple[str, ...]] = ()
    _known: ClassVar[frozenset[str]] = frozenset()
    _required: ClassVar[frozenset[str]] = frozenset()
    _content: ClassVar[Callable[[Any], Any]] = staticmethod(lambda _: ())

    def __init_subclass__(cls) -> None:
        own = [name for name, kind in cls.__annotations__.items() if not str(kind).startswith("ClassVar")]
        cls._names = tuple(dict.fromkeys((*cls._names, *own)))
        cls._known = frozenset(cls._names)
        cls._required = frozenset(name for name in cls._names if not hasattr(cls, name))
        cls._content = staticmethod(attrgetter(*cls._names))

    def __init__(self, **fields: Any) -> None:
        if not self._required <= fields.keys() <= self._known:
            missing = sorted(self._required - fields.keys())
            unknown = sorted(fields.keys() - self._known)
            what = f"needs {', '.join(missing)}" if missing else f"has no {', '.join(unknown)}"
            raise TypeError(f"{type(self).__name__} {what}")
        self.__dict__.update(fields)

    def __setattr__(self, name: str, _: object) -> None:
        raise AttributeError(f"cannot assign to field {name!r} of {type(self).__name__}, which is frozen")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"cannot delete field {name!r} of {type(self).__name__}, which is frozen")

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        content = type(self)._content
        return bool(content(self) == content(other))

    def __hash__(self) -> int:
        return hash(type(self)._content(self))  # noqa: SLF001  # our own class

    def __replace__(self, **changes: Any) -> Self:
        return replace(self, **changes)

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._names)
        return f"{type(self).__qualname__}({fields})"


V = TypeVar("V", bound=Value)


def replace(value: V, /, **changes: Any) -> V:
    """Like `dataclasses.replace`, without its import."""
    return type(value)(**{name: getattr(value, name) for name in value._names} | changes)  # noqa: SLF001
