"""Values that never change, in classes that are quick to define."""

from collections.abc import Callable
from dataclasses import MISSING, Field, FrozenInstanceError, dataclass, field, fields
from operator import attrgetter
from typing import Any, NoReturn, TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
def frozen(cls: type[T]) -> type[T]:
    """Make a dataclass as `dataclass(frozen=True, kw_only=True, slots=True)` does.

    That compiles six methods for each class; with all of ours it took a third of every start. Here
    the classes share theirs.
    """
    made: Any = dataclass(init=False, repr=False, eq=False, kw_only=True, slots=True)(cls)
    made.__init__ = _initializer(made)
    made.__eq__, made.__hash__ = _comparison(made)
    if "__repr__" not in vars(cls):
        made.__repr__ = _shown
    made.__setattr__ = made.__delattr__ = _refused
    return made  # type: ignore[no-any-return]


@dataclass_transform(kw_only_default=True, eq_default=False, field_specifiers=(field,))
def mutable(cls: type[T]) -> type[T]:
    """Make a dataclass of what changes: quick to define too, and equal only to itself."""
    made: Any = dataclass(init=False, repr=False, eq=False, kw_only=True, slots=True)(cls)
    made.__init__ = _initializer(made)
    made.__repr__ = _shown
    return made  # type: ignore[no-any-return]


def replaced(value: T, **changes: Any) -> T:  # noqa: ANN401 - of any field
    """Return a copy with other values in some fields, as `dataclasses.replace` does.

    It is several times as quick, for where it is done for every event of a run.
    """
    cls: Any = value.__class__
    made: T = object.__new__(cls)
    for name in cls.__slots__:
        put = getattr(cls, name).__set__
        put(made, changes.pop(name) if name in changes else getattr(value, name))
    if changes:
        raise TypeError(f"{cls.__name__} has no field {min(changes)!r}")
    return made


def _initializer(cls: Any) -> Callable[..., None]:  # noqa: ANN401 - any class at all
    names = frozenset(one.name for one in fields(cls))
    # A slot can be set through the class; the instance itself refuses.
    slots = [(one.name, getattr(cls, one.name).__set__, *_default(cls, one)) for one in fields(cls)]

    def __init__(self: Any, **given: Any) -> None:  # noqa: ANN401, N807
        if not given.keys() <= names:
            raise TypeError(f"{cls.__name__} has no field {min(given.keys() - names)!r}")
        for name, put, default, factory in slots:
            if name in given:
                put(self, given[name])
            else:
                put(self, factory() if factory else default)

    return __init__


def _default(cls: type, one: "Field[Any]") -> tuple[Any, Callable[[], Any] | None]:
    """Return what a field that is not given gets, or what makes that."""

    def missing() -> NoReturn:
        raise TypeError(f"{cls.__name__} needs {one.name!r}")

    if one.default_factory is not MISSING:
        return None, one.default_factory
    return (None, missing) if one.default is MISSING else (one.default, None)


def _comparison(cls: Any) -> tuple[Callable[[Any, object], Any], Callable[[Any], int]]:  # noqa: ANN401
    names = [one.name for one in fields(cls)]
    values = attrgetter(*names) if names else type

    def __eq__(self: object, other: object) -> Any:  # noqa: ANN401, N807
        if other.__class__ is not self.__class__:
            return NotImplemented
        return values(self) == values(other)

    def __hash__(self: object) -> int:  # noqa: N807
        return hash(values(self))

    return __eq__, __hash__


def _shown(self: Any) -> str:  # noqa: ANN401
    told = ", ".join(f"{one.name}={getattr(self, one.name)!r}" for one in fields(self))
    return f"{type(self).__qualname__}({told})"


def _refused(self: object, name: str, value: object = None) -> NoReturn:
    raise FrozenInstanceError(f"{type(self).__name__} never changes: {name!r} can't be set")
