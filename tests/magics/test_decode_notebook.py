"""Instances of the notebook's own classes come back as instances of the notebook's classes, and no code of them runs meanwhile."""

from __future__ import annotations

import collections
import dataclasses
import enum
import typing

import pytest
from tests.fakes.crossing import crossed, one, there_and_back

from remote_gpu.codec.decode import UnsafeValue
from remote_gpu.node.incoming import SENT_CLASSES


def _sent(*kinds, **named):
    """The classes as the node has them and as the notebook looks them up."""
    classes = {**{kind.__qualname__.rpartition(">.")[2]: kind for kind in kinds}, **named}
    for name, kind in classes.items():
        SENT_CLASSES[kind] = name
    return classes


class Plain:
    ran: typing.ClassVar[list] = []

    def __init__(self, x):
        self.ran.append("init")
        self.x = x

    def __setstate__(self, state):
        self.ran.append("setstate")

    def __setattr__(self, name, value):
        self.ran.append("setattr")
        object.__setattr__(self, name, value)

    def __reduce__(self):
        self.ran.append("reduce")
        return (Plain, (0,))


def test_attributes_are_set_and_no_method_of_the_class_runs():
    value = Plain([1, 2])
    value.me = value
    Plain.ran.clear()
    back = one(value, _sent(Plain))
    assert type(back) is Plain
    assert back.x == [1, 2]
    assert back.me is back
    assert Plain.ran == []


def test_the_class_is_the_one_that_has_the_name_here():
    class Here:
        pass

    class There:
        pass

    SENT_CLASSES[There] = "Model"
    value = There()
    value.a = 1
    back = one(value, {"Model": Here})
    assert type(back) is Here
    assert back.a == 1


def test_a_class_that_the_notebook_did_not_send_is_refused_and_one_that_it_defined_there_stays():
    class Other:
        pass

    entries, _ = crossed({"x": Other()})
    assert entries["x"]["kind"] == "handle"
    SENT_CLASSES[Other] = "Other"
    with pytest.raises(UnsafeValue, match="no class that this notebook sent"):
        one(Other(), {})
    with pytest.raises(UnsafeValue, match="no class that this notebook sent"):
        one(Other(), {"Other": lambda: None})


def test_a_class_with_a_del_stays_there_and_is_never_built_here():
    class Old:
        pass

    class Closing:
        def __del__(self):
            raise AssertionError

    SENT_CLASSES[Old] = "Closing"
    with pytest.raises(UnsafeValue, match="__del__"):
        one(Old(), {"Closing": Closing})


@dataclasses.dataclass
class Point:
    x: int
    y: list


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    x: int
    y: str = "y"


class Slotted:
    __slots__ = ("__private", "a", "b")

    def __init__(self):
        self.a = 1
        self.__private = 2

    def private(self):
        return self.__private


class Mixed(Slotted):
    def __init__(self):
        super().__init__()
        self.c = 3


def test_dataclasses_and_slots_come_back():
    classes = _sent(Point, Frozen, Slotted, Mixed)
    assert one(Point(1, [2]), classes) == Point(1, [2])
    assert one(Frozen(1), classes) == Frozen(1)
    assert one({Frozen(2): "as a key"}, classes) == {Frozen(2): "as a key"}
    back = one(Mixed(), classes)
    assert (back.a, back.private(), back.c) == (1, 2, 3)
    assert not hasattr(back, "b")


class Colour(enum.Enum):
    RED = 1
    ALSO_RED = 1  # noqa: PIE796  an alias, on purpose
    GREEN = (1, 2)


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


class Level(enum.IntEnum):
    LOW = 1


class Word(enum.StrEnum):
    A = "a"


def test_members_of_enums_come_back_as_the_members():
    classes = _sent(Colour, Rights, Level, Word)
    for member in (*Colour, *Rights, *Level, *Word, Rights.READ | Rights.WRITE, Rights(0)):
        assert one(member, classes) is member


Pair = collections.namedtuple("Pair", "left right")  # noqa: PYI024


class Typed(typing.NamedTuple):
    a: int
    b: str = "b"


class Bag(dict):
    def __setitem__(self, key, value):
        raise AssertionError


class Row(list):
    def append(self, item):
        raise AssertionError

    def extend(self, items):
        raise AssertionError


class Kinds(set):
    pass


class Name(str):
    __slots__ = ()


class Metres(float):
    pass


class Bits(int):
    pass


class Tags(frozenset):
    pass


class Blob(bytes):
    pass


def test_subclasses_of_builtin_types_come_back_with_what_they_hold():
    classes = _sent(Pair, Typed, Bag, Row, Kinds, Name, Metres, Bits, Tags, Blob)
    bag, row, kinds = Bag({"a": 1}), Row([1, 2]), Kinds({1})
    bag.note = "n"
    dict.__setitem__(bag, "me", bag)
    list.append(row, row)
    back = there_and_back({"bag": bag, "row": row, "kinds": kinds}, classes)
    assert type(back["bag"]) is Bag
    assert back["bag"]["me"] is back["bag"]
    assert back["bag"].note == "n"
    assert type(back["row"]) is Row
    assert back["row"][2] is back["row"]
    assert type(back["kinds"]) is Kinds
    assert back["kinds"] == {1}
    for value in (Pair(1, [2]), Typed(3), Name("x"), Metres(1.5), Bits(7), Bits(-7), Tags({1}), Blob(b"ab")):
        found = one(value, classes)
        assert type(found) is type(value)
        assert found == value
    metres = Metres(2)
    metres.exact = False
    assert one(metres, classes).exact is False


class Wrong(ValueError):
    def __init__(self, code, *, where):
        super().__init__(f"{code} in {where}")
        self.code = code


class Lost(OSError):
    pass


def test_exceptions_of_the_notebook_come_back_as_such():
    classes = _sent(Wrong, Lost)
    back = one(Wrong(5, where="here"), classes)
    assert type(back) is Wrong
    assert (str(back), back.code) == ("5 in here", 5)
    assert one(Lost("x"), classes).args == ("x",)


def test_an_instance_that_holds_what_cannot_leave_stays_there_as_a_whole():
    value = Point(1, [print, open])
    entries, back = crossed({"value": value, "number": 1}, _sent(Point))
    assert entries["value"]["kind"] == "handle"
    assert back == {"number": 1}


def test_what_a_trusted_node_sends_is_unpickled():
    import functools

    class Local:
        def __init__(self, x):
            self.x = x

    _, back = crossed({"f": functools.partial(max, 3), "g": lambda x: x + 1, "it": Local(2), "frame": [1.5]}, trusted=True)
    assert back["f"](1) == 3
    assert back["g"](1) == 2
    assert back["it"].x == 2
    assert isinstance(back["it"], Local)
