"""Values on their way from a node to the notebook, without the processes between: the node's half encodes, the notebook's decodes."""

from __future__ import annotations

from remote_gpu.codec.decode import decode, decode_trusted
from remote_gpu.handles import make_handle
from remote_gpu.node.held import Held
from remote_gpu.node.outgoing import collect

PLENTY = 1 << 40


def there_and_back(values, classes=None, **options):
    """`values` by name, as the notebook gets them; what came as no value is an assertion."""
    entries, found = crossed(values, classes, **options)
    assert {name: entry for name, entry in entries.items() if entry["kind"] != "value"} == {}
    return found


def crossed(values, classes=None, *, held=None, limit=PLENTY, inline=PLENTY, **options):
    """(entries, values) of what a node makes of `values`."""
    collected = collect(list(values), values, Held() if held is None else held, limit=limit, inline=inline, **options)
    names = [name for name, entry in collected.entries.items() if entry["kind"] == "value"]
    buffers = [memoryview(bytearray(buffer)) for buffer in collected.buffers]
    if options.get("trusted"):
        return collected.entries, decode_trusted(collected.head, buffers, names)
    return collected.entries, decode(collected.head, buffers, names, classes or {})


def one(value, classes=None, **options):
    """`value` after the way back."""
    return there_and_back({"value": value}, classes, **options)["value"]


class NodeAtHand:
    """A `Remote` whose node is in this process: what a handle asks for is done to the held objects."""

    session = "s1"
    where = "session work on node7"

    def __init__(self, limit=1 << 20):
        self.held = Held()
        self.limit = limit
        self.released: list[int] = []
        self.asked: list[tuple] = []

    def take(self, value):
        """`value` as the notebook gets it from a cell."""
        entries, found = crossed({"value": value}, held=self.held, limit=self.limit)
        return found["value"] if found else make_handle(entries["value"], self)

    def call(self, handle_id, operation, args, kwargs):
        self.asked.append((operation, *args))
        return self.take(self.held.operate(handle_id, operation, args, kwargs))

    def fetch(self, handle_id):
        return one(self.held.resolve(handle_id), force=("value",))

    def release(self, handle_id):
        self.released.append(handle_id)
