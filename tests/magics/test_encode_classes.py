"""Classes of the notebook on the node, and their instances: they stay what they are, and the same class is one class there."""

from __future__ import annotations

import pytest
from tests.fakes.other_side import NearNode, Notebook


@pytest.fixture
def notebook(monkeypatch):
    return Notebook(monkeypatch)


@pytest.fixture
def node(monkeypatch, notebook):
    return NearNode(monkeypatch)


both = pytest.mark.parametrize("same_python", [True, False], ids=["as bytecode", "as source text"])


CLASSES = """
import abc, dataclasses, enum, functools, collections, typing
made = []
class Base:
    def __init_subclass__(cls, **options):
        made.append(cls)
    def hi(self):
        return "base"
class Meta(type):
    def __new__(meta, name, bases, content, *, needed):
        content["from_meta"] = needed
        return super().__new__(meta, name, bases, content)
    def __init__(cls, name, bases, content, *, needed):
        super().__init__(name, bases, content)
    def __len__(cls):
        return 7
class Model(Base):
    count = 0
    def __init__(self, a):
        super().__init__()
        self.a = a
        self.__hidden = 5
    def hi(self):
        return super().hi() + "!"
    @property
    def double(self):
        return self.a * 2
    @double.setter
    def double(self, value):
        self.a = value // 2
    @classmethod
    def new(cls):
        return cls(1)
    @staticmethod
    def plus(x):
        return x + helper
    @functools.cached_property
    def slow(self):
        return [self.a]
    def hidden(self):
        return self.__hidden
    class Inner:
        def __repr__(self):
            return "inner"
helper = 1
class Slots:
    __slots__ = ("x", "__y")
    def __init__(self):
        self.x, self.__y = 1, 2
    def y(self):
        return self.__y
class Meted(metaclass=Meta, needed=3):
    pass
class Shape(abc.ABC):
    @abc.abstractmethod
    def area(self): ...
class Square(Shape):
    def area(self):
        return 4
@dataclasses.dataclass(order=True)
class Point:
    x: int
    y: list = dataclasses.field(default_factory=list, compare=False)
    z: typing.ClassVar[int] = 9
    def norm(self):
        return abs(self.x)
@dataclasses.dataclass(frozen=True, slots=True)
class Cold:
    x: int = 3
class Color(enum.Enum):
    RED = 1
    BLUE = "b"
    def low(self):
        return self.name.lower()
class Bits(enum.Flag):
    A = 1
    B = 2
Pair = collections.namedtuple("Pair", "left right", defaults=[0])
class Typed(typing.NamedTuple):
    a: int
    b: str = "x"
    def both(self):
        return f"{self.a}{self.b}"
T = typing.TypeVar("T")
class Box(typing.Generic[T]):
    def __init__(self, item: T):
        self.item = item
class Trouble(ValueError):
    def __init__(self, a, b):
        super().__init__(a)
        self.b = b
class Rows(list):
    pass
class Table(dict):
    def __missing__(self, key):
        return key
model, slots, square, point, cold, pair, typed, box, rows, table = (
    Model(4), Slots(), Square(), Point(-2, [1]), Cold(), Pair(1), Typed(2), Box(1), Rows([1, 2]), Table(a=1))
rows.note = "n"
inner, red, bits, method = Model.Inner(), Color.RED, Bits.A | Bits.B, model.hi
trouble = Trouble("a", 2)
"""

CHECKS = """
assert model.hi() == "base!" and model.double == 8 and Model.new().a == 1 and Model.plus(1) == 2 and model.slow == [4]
assert model.hidden() == 5
model.double = 6
assert model.a == 3 and isinstance(model, Model) and isinstance(model, Base) and not made
assert repr(inner) == "inner" and Model.Inner.__qualname__ == "Model.Inner" and type(inner) is Model.Inner
assert slots.x == 1 and slots.y() == 2 and not hasattr(slots, "__dict__")
assert len(Meted) == 7 and Meted.from_meta == 3
assert square.area() == 4 and isinstance(square, Shape)
try: Shape()
except TypeError: pass
else: raise AssertionError("abstract")
assert point == Point(-2) and point.y == [1] and point.norm() == 2 and Point(1) < Point(2) and Point.z == 9
assert repr(point) == "Point(x=-2, y=[1])"
assert dataclasses.asdict(point) == {"x": -2, "y": [1]} and dataclasses.replace(point, x=5).x == 5
assert cold == Cold(3) and hash(cold) == hash(Cold()) and not hasattr(cold, "__dict__")
try: cold.x = 1
except dataclasses.FrozenInstanceError: pass
else: raise AssertionError("frozen")
assert red is Color.RED and Color("b") is Color.BLUE and red.low() == "red" and [each.name for each in Color] == ["RED", "BLUE"]
assert bits == Bits.A | Bits.B and Bits.A in bits
assert pair == (1, 0) and pair.left == 1 and Pair(5)._replace(right=1) == (5, 1) and repr(pair) == "Pair(left=1, right=0)"
assert typed.both() == "2x" and type(typed) is Typed and Typed(1).b == "x"
assert box.item == 1 and Box[int](2).item == 2
assert rows == [1, 2] and rows.note == "n" and type(rows) is Rows and table["q"] == "q" and table["a"] == 1
assert method() == "base!" and method.__self__ is model
"""
NAMES = [
    "Base",
    "Meta",
    "Model",
    "helper",
    "Slots",
    "Meted",
    "Shape",
    "Square",
    "Point",
    "Cold",
    "Color",
    "Bits",
    "Pair",
    "Typed",
    "T",
    "Box",
    "Rows",
    "Table",
    "model",
    "slots",
    "square",
    "point",
    "cold",
    "pair",
    "typed",
    "box",
    "rows",
    "table",
    "inner",
    "red",
    "bits",
    "method",
    "dataclasses",
    "made",
]


@both
def test_classes_and_their_instances_work_there(notebook, node, same_python):
    notebook.cell(CLASSES)
    notebook.names["made"].clear()
    notebook.send(node, *NAMES, same_python=same_python)
    node.run(CHECKS)


def test_a_class_that_is_sent_twice_is_one_class(notebook, node):
    notebook.cell("class A:\n    old = 1\na = A()")
    notebook.send(node, "a")
    first = node["a"]
    notebook.cell("b = A()\nA.new = lambda self: 5\ndel A.old")
    notebook.send(node, "A", "b")
    assert type(first) is type(node["b"]) is node["A"]
    assert first.new() == 5
    assert not hasattr(first, "old")
    notebook.cell("class A: pass")
    notebook.send(node, "A")
    assert not isinstance(first, node["A"]), "a class that was defined anew is another, as in the notebook"


def test_an_instance_brings_its_class_by_name_too_so_that_it_can_be_pickled_there(notebook):
    notebook.cell(
        "class Model:\n    class Inner: pass\ndef make():\n    class Model: pass\n    return Model()\nm, inner, local = Model(), Model.Inner(), make()"
    )
    assert [notebook.encoded(name).needs for name in ("m", "inner", "local")] == [{"Model"}, {"Model"}, set()]


def test_the_name_that_a_class_was_sent_under_is_known(notebook, node):
    from remote_gpu.node.incoming import SENT_CLASSES

    notebook.cell("class Outer:\n    class Inner: pass\nvalue = Outer.Inner()")
    notebook.send(node, "value", "Outer")
    assert SENT_CLASSES[type(node["value"])] == "Outer.Inner"
    assert SENT_CLASSES[node["Outer"]] == "Outer"
