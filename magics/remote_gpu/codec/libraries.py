"""How values of well-known libraries are taken apart. A library is used only where the process has imported it already."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from remote_gpu.codec import arrays
from remote_gpu.codec.standins import call

if TYPE_CHECKING:
    from remote_gpu.codec.pickler import ParcelPickler

__all__ = ["handler"]

_ARROW_FROM = 1024**2


def handler(kind: type) -> Callable[[ParcelPickler, Any], Any] | None:
    """How an instance of exactly `kind` is reduced; None for pickle's own way."""
    module, name = str(kind.__module__), kind.__name__
    top = module.partition(".")[0]
    found = _BY_NAME.get((top, name))
    if found is None and top in ("jax", "jaxlib") and name == "ArrayImpl":
        return _jax
    return found


def _tensor(_: ParcelPickler, tensor: Any) -> Any:
    """A torch tensor as its memory: torch's own pickle copies it into the stream."""
    import torch

    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_nested or tensor.device.type == "meta":
        return NotImplemented
    plain = tensor.detach().resolve_conj().resolve_neg().cpu()
    axes, back = arrays.spread_axes(tuple(plain.stride()))
    dense = plain.permute(axes).contiguous()
    memory = dense.reshape(-1).view(torch.uint8).numpy() if dense.numel() else None
    buffer = pickle.PickleBuffer(memory if memory is not None else b"")
    about = {
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "shape": tuple(dense.shape),
        "back": back,
        "device": str(tensor.device),
        "requires_grad": bool(tensor.requires_grad),
        "parameter": isinstance(tensor, torch.nn.Parameter),
    }
    gradient = tensor.grad if tensor.is_leaf else None
    extra = (gradient, dict(tensor.__dict__)) if gradient is not None or tensor.__dict__ else None
    return call["tensor"], (buffer, about, extra)


def _jax(_: ParcelPickler, array: Any) -> Any:
    import jax
    import numpy as np

    if jax.dtypes.issubdtype(array.dtype, jax.dtypes.extended):
        return NotImplemented
    return call["jax_array"], (np.asarray(array), str(array.dtype), bool(array.weak_type))


def _polars(_: ParcelPickler, frame: Any) -> Any:
    """A large polars frame of plain columns goes as Arrow memory, which is not copied."""
    import polars as pl

    simple = all(kind.is_numeric() or kind in (pl.String, pl.Boolean, pl.Date, pl.Datetime, pl.Duration, pl.Time) for kind in frame.dtypes)
    if not simple or pl.Int128 in frame.dtypes or any(kind.is_decimal() for kind in frame.dtypes) or frame.estimated_size() < _ARROW_FROM:
        return NotImplemented
    try:
        return call["polars_frame"], (frame.to_arrow(compat_level=pl.CompatLevel.newest()),)
    except ImportError:  # polars works without pyarrow
        return NotImplemented


_BY_NAME: dict[tuple[str, str], Callable[[ParcelPickler, Any], Any]] = {
    ("numpy", "ndarray"): arrays.reduce_array,
    ("numpy", "memmap"): arrays.reduce_memory_map,
    ("numpy", "MaskedArray"): arrays.reduce_masked,
    ("torch", "Tensor"): _tensor,
    ("torch", "Parameter"): _tensor,
    ("polars", "DataFrame"): _polars,
}
"""By the first part of the module's name and the type's name; the type is compared exactly, subclasses go their own way."""
