"""The parts of a value, and where two values differ in type, field or zone. ``==`` is not trusted."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from operator import attrgetter
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import msgspec

PLAIN = frozenset({str, int, bool, bytes, type(None), date, timedelta})
"""Types whose equal values are the same."""


class Difference(NamedTuple):
    """The place where two values differ, like ``.lines[0]``, and the part of each at that place."""

    at: str
    a: object
    b: object


class _Missing:
    def __repr__(self) -> str:
        return "nothing"


_MISSING = _Missing()


def field_names(cls: type[Any]) -> list[str] | None:
    """The declared fields; None for a class that declares none."""
    if hasattr(cls, "model_validate_json"):
        return list(cls.model_fields)
    if issubclass(cls, msgspec.Struct):
        return list(cls.__struct_fields__)
    if hasattr(cls, "__attrs_attrs__"):
        return [field.name for field in cls.__attrs_attrs__]
    return [field.name for field in dataclasses.fields(cls)] if dataclasses.is_dataclass(cls) else None


def parts(value: Any) -> dict[Any, Any] | None:
    """The parts of a value by key; None for a value without parts."""
    if isinstance(value, dict):
        return value
    if isinstance(value, list | tuple | set | frozenset):
        return dict(enumerate(value))
    names = field_names(type(value))
    if names is None:
        return None
    return {name: getattr(value, name, None) for name in names} | (getattr(value, "model_extra", None) or {})


def difference(a: Any, b: Any, at: str = "") -> Difference | None:
    """The first place where the values differ; None if they are the same."""
    if same(a, b):
        return None
    if type(a) is type(b):
        within = _within(a, b)
        for key, x, y in within:
            if found := difference(x, y, f"{at}{key}"):
                return found
    return Difference(at, a, b)


def _within(a: Any, b: Any) -> Iterable[tuple[str, Any, Any]]:
    """The parts of both, in pairs, with the name of their place; empty if the places themselves differ."""
    if isinstance(a, dict):
        return [(f"[{key!r}]", a[key], b[key]) for key in a] if len(a) == len(b) and _all_same(a, b) else ()
    if isinstance(a, list | tuple):
        return [(f"[{n}]", x, y) for n, (x, y) in enumerate(zip(a, b, strict=True))] if len(a) == len(b) else ()
    if isinstance(a, set | frozenset) or (names := _names_of(a)) is None:
        return ()
    return [(f".{name}", getattr(a, name, _MISSING), getattr(b, name, _MISSING)) for name in names]


def _names_of(value: Any) -> list[str] | None:
    names = field_names(type(value))
    return None if names is None else [*names, *(getattr(value, "model_extra", None) or ())]


# -- whether, at the speed of a dispatch ----------------------------------------------------


def same(a: Any, b: Any) -> bool:
    """True if the values have the same types, fields and zones at every depth.

    One exception: an int is the same as the float of its value, as for type checkers (PEP 484).
    """
    kind = type(a)
    if kind is not type(b):
        if kind is int and type(b) is float:
            return bool(a == b)
        return _stood_for(kind) is _stood_for(type(b)) and _same_time(a, b)
    if kind in PLAIN:
        return bool(a == b)
    how = _HOW.get(kind)
    if how is None:
        how = _HOW[kind] = _how(kind)
    return how(a, b)


def _all_same(a: Iterable[Any], b: Iterable[Any]) -> bool:
    """True if two collections of one length hold the same values in the same order."""
    for x, y in zip(a, b):  # noqa: B905
        kind = type(x)
        if not (x == y if kind is type(y) and kind in PLAIN else same(x, y)):
            return False
    return True


def _how(kind: type[Any]) -> Callable[[Any, Any], bool]:
    """The function that compares two values of a type."""
    if issubclass(kind, Enum):
        return _same_value
    if (names := field_names(kind)) is not None:
        return _fields_compared(names, kind)
    for base, how in _BASES:
        if issubclass(kind, base):
            return how
    return _same_value


def _fields_compared(names: list[str], kind: type[Any]) -> Callable[[Any, Any], bool]:
    if hasattr(kind, "model_extra"):
        names = [*names, "model_extra"]
    if len(names) < 2:
        return lambda a, b: _all_same(_all_values(a), _all_values(b))
    values = attrgetter(*names)

    def compared(a: Any, b: Any) -> bool:
        try:
            return _all_same(values(a), values(b))
        except AttributeError:  # a field that was never set
            return _all_same(_all_values(a), _all_values(b))

    return compared


def _all_values(value: Any) -> list[Any]:
    return [getattr(value, name, _MISSING) for name in field_names(type(value)) or ()]


def _same_dict(a: dict[Any, Any], b: dict[Any, Any]) -> bool:
    return len(a) == len(b) and _all_same(a, b) and _all_same(a.values(), b.values())


def _same_set(a: Any, b: Any) -> bool:
    others = {one: one for one in b}
    return len(a) == len(b) and all(same(one, others.get(one, _MISSING)) for one in a)


def _same_float(a: float, b: float) -> bool:
    if a == b:
        return a != 0 or math.copysign(1, a) == math.copysign(1, b)
    return math.isnan(a) and math.isnan(b)


def _same_time(a: Any, b: Any) -> bool:
    """True if the clock times are equal and both are naive, with one fold, or both have one fixed offset."""
    zone, other = getattr(a, "tzinfo", None), getattr(b, "tzinfo", None)
    if zone is None and other is None:
        return bool(a == b) and getattr(a, "fold", 0) == getattr(b, "fold", 0)
    if zone is None or other is None or (fixed := zone.utcoffset(None)) is None:
        return False
    return bool(fixed == other.utcoffset(None) and a.replace(tzinfo=None) == b.replace(tzinfo=None))


def _same_value(a: Any, b: Any) -> bool:
    try:
        return bool(a == b)
    except Exception:
        return False


def _stood_for(kind: type[Any]) -> type[Any]:
    """The stdlib class that freezegun's class replaces; any other class itself."""
    return (stdlib_date(kind) or kind) if kind.__module__.startswith("freezegun") else kind


def stdlib_date(cls: type) -> type[Any] | None:
    """datetime or date if ``cls`` is a subclass of it (a frozen clock makes those)."""
    return next((c for c in cls.__mro__ if c.__module__ == "datetime" and c.__name__ in ("datetime", "date")), None)


_BASES: tuple[tuple[Any, Callable[[Any, Any], bool]], ...] = (
    (dict, _same_dict),
    ((list, tuple), lambda a, b: len(a) == len(b) and _all_same(a, b)),
    ((set, frozenset), _same_set),
    (datetime, lambda a, b: a == b if a.tzinfo is b.tzinfo is UTC else _same_time(a, b)),
    (time, _same_time),
    (float, _same_float),
    (Decimal, lambda a, b: a.as_tuple() == b.as_tuple()),
)
_HOW: WeakKeyDictionary[type[Any], Callable[[Any, Any], bool]] = WeakKeyDictionary()
"""By type, filled at first use. Weak, since types may be made at run time."""
