"""Values on their way from a node to the notebook, without the processes between: the node's half encodes, the notebook's decodes."""

from __future__ import annotations

from remote_gpu.decode import decode, decode_trusted
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
    collected = collect(list(values), values, held or Held(), limit=limit, inline=inline, **options)
    names = [name for name, entry in collected.entries.items() if entry["kind"] == "value"]
    buffers = [memoryview(bytearray(buffer)) for buffer in collected.buffers]
    if options.get("trusted"):
        return collected.entries, decode_trusted(collected.head, buffers, names)
    return collected.entries, decode(collected.head, buffers, names, classes or {})


def one(value, classes=None, **options):
    """`value` after the way back."""
    return there_and_back({"value": value}, classes, **options)["value"]
