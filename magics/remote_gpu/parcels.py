"""How encoded names travel: which buffers go in the message, which as blobs, and how the request names them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["BLOB_FROM", "Packed", "PutMissing", "pack"]

BLOB_FROM = 64 * 1024
"""Buffers of more bytes travel as blobs, where there is a data stream."""

PutMissing = Callable[[Sequence[memoryview]], Sequence[str]]
"""Has the buffers on the node as blobs; returns their addresses."""


@dataclass(frozen=True, slots=True)
class Packed:
    """One parcel on its way: `manifest` for the request's metadata, `buffers` for the request itself; `size` in bytes."""

    manifest: Mapping[str, Any]
    buffers: list[Any] = field(default_factory=list)
    size: int = 0


def pack(names: Sequence[str], head: bytes, buffers: Sequence[memoryview], put: PutMissing | None, *, first: int = 0) -> Packed:
    """Place a parcel's parts. `first` is the number of buffers that the request has already. Without `put` all go in the message."""
    parts = [memoryview(head), *buffers]
    large = [index for index, part in enumerate(parts) if put is not None and part.nbytes > BLOB_FROM]
    digests = dict(zip(large, put([parts[index] for index in large]), strict=True)) if put is not None and large else {}
    inline: list[Any] = []
    refs: list[dict[str, Any]] = []
    for index, part in enumerate(parts):
        if index in digests:
            refs.append({"blob": digests[index], "size": part.nbytes})
        else:
            refs.append({"inline": first + len(inline)})
            inline.append(part)
    manifest = {"names": list(names), "head": refs[0], "buffers": refs[1:]}
    return Packed(manifest, inline, sum(part.nbytes for part in parts))
