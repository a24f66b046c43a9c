from collections.abc import Callable, Mapping
from dataclasses import FrozenInstanceError, dataclass, field, fields, is_dataclass, replace
from typing import Any

import pytest

from opskit.model.frozen import frozen, mutable, replaced
from opskit.model.run import ActionRecord


@frozen
class Ours:
    """A class that is defined our way."""

    one: int
    two: str = "2"
    many: Mapping[str, int] = field(default_factory=dict)

    @property
    def double(self) -> int:
        return 2 * self.one


@dataclass(frozen=True, kw_only=True, slots=True)
class Theirs:
    """The same class, defined by the standard library alone."""

    one: int
    two: str = "2"
    many: Mapping[str, int] = field(default_factory=dict)

    @property
    def double(self) -> int:
        return 2 * self.one


@frozen
class Empty:
    """A class without fields."""


Make = Callable[..., Any]
BOTH = pytest.mark.parametrize("cls", [Ours, Theirs])


@BOTH
def test_it_is_a_dataclass_with_slots(cls: Make) -> None:
    value = cls(one=1)

    assert (value.one, value.two, value.many, value.double) == (1, "2", {}, 2)
    assert not hasattr(value, "__dict__")
    assert repr(value) == f"{type(value).__name__}(one=1, two='2', many={{}})"
    assert is_dataclass(value)
    assert [f.name for f in fields(value)] == ["one", "two", "many"]


@BOTH
def test_what_is_missing_too_much_or_without_a_name_is_refused(cls: Make) -> None:
    with pytest.raises(TypeError, match="one"):
        cls()
    with pytest.raises(TypeError, match="three"):
        cls(one=1, three=3)
    with pytest.raises(TypeError, match="positional"):
        cls(1)


@BOTH
def test_equal_is_what_has_the_same_class_and_values(cls: Make) -> None:
    value = cls(one=1, many=())

    assert value == cls(one=1, many=())
    assert value != cls(one=2, many=())
    assert hash(value) == hash(cls(one=1, many=()))
    assert value not in (Ours(one=2), Theirs(one=2), (1, "2", ()), None)
    with pytest.raises(TypeError, match="unhashable"):
        hash(cls(one=1))


def test_values_of_two_classes_are_never_equal() -> None:
    ours: object = Ours(one=1)

    assert ours != Theirs(one=1)
    assert Empty() == Empty()
    assert hash(Empty()) == hash(Empty())
    assert repr(Empty()) == "Empty()"


@BOTH
def test_nothing_can_be_set_or_taken_away(cls: Make) -> None:
    value = cls(one=1)

    with pytest.raises(FrozenInstanceError):
        value.one = 2
    with pytest.raises(FrozenInstanceError):
        del value.one
    with pytest.raises((FrozenInstanceError, TypeError)):
        value.other = 2
    assert value == cls(one=1)


@BOTH
def test_every_value_has_its_own_default(cls: Make) -> None:
    first, second = cls(one=1), cls(one=1)

    first.many["a"] = 1

    assert second.many == {}


@BOTH
def test_a_value_with_something_else_in_it_is_another_value(cls: Make) -> None:
    value = cls(one=1, two="b")

    other = replace(value, one=3)

    assert (other.one, other.two, value.one) == (3, "b", 1)


@mutable
class Counter:
    """A class of what changes."""

    count: int = 0
    seen: list[int] = field(default_factory=list)


def test_what_changes_can_be_set_and_is_equal_only_to_itself() -> None:
    make: Make = Counter
    first, second = make(), make(count=0)

    first.count += 1
    first.seen.append(1)

    assert (first.count, first.seen, second.count, second.seen) == (1, [1], 0, [])
    assert second != Counter()
    assert repr(first) == "Counter(count=1, seen=[1])"
    with pytest.raises(TypeError, match="other"):
        make(other=1)
    assert not hasattr(first, "__dict__")


def test_a_copy_with_other_values_is_what_dataclasses_make_of_it() -> None:
    one = ActionRecord(key="1/a", host="a", step="s", state="started", attempt=2)
    assert replaced(one, state="failed", ended=3.0) == replace(one, state="failed", ended=3.0)
    assert one.state == "started"
    with pytest.raises(TypeError, match="ActionRecord has no field 'stat'"):
        replaced(one, stat="failed")
