"""torch's tensors, over raw memory whose size must fit; jax's arrays, which are numpy's until jax is loaded here."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable
from typing import Any

from remote_gpu.codec.rebuild.arrays import array_of
from remote_gpu.codec.rebuild.checks import UnsafeValue, exactly, natural, one_of, raw, text
from remote_gpu.codec.rebuild.notebook import Context

__all__ = ["TENSORS"]

_DTYPES = frozenset(
    [
        "float16",
        "float32",
        "float64",
        "bfloat16",
        "complex32",
        "complex64",
        "complex128",
        "uint8",
        "int8",
        "int16",
        "int32",
        "int64",
        "uint16",
        "uint32",
        "uint64",
        "bool",
        "float8_e4m3fn",
        "float8_e5m2",
    ]
)
_DEVICE = re.compile(r"(cpu|cuda|mps|xpu|meta)(:\d{1,3})?")
_MOST_AXES = 64


def torch_dtype(_: Context, name: object) -> Any:
    """A dtype of torch's."""
    import torch

    if text(name) not in _DTYPES:
        raise UnsafeValue("The node named a dtype of torch's that may not come.")
    return getattr(torch, str(name))


def tensor(context: Context, form: object, memory: object, dtype: object, shape: object, gradient: object) -> Any:
    """A tensor on the CPU, or a parameter; it keeps `memory` where that is writable."""
    import torch

    kind, view = torch_dtype(context, dtype), raw(memory)
    sides = [natural(side) for side in exactly(shape, list)]
    if len(sides) > _MOST_AXES or math.prod(sides) * kind.itemsize != view.nbytes:
        raise UnsafeValue("The memory of a tensor does not fit its shape.")
    if view.nbytes:
        made = torch.frombuffer(bytearray(view) if view.readonly else view, dtype=torch.uint8)
        if made.data_ptr() % kind.itemsize:
            made = made.clone()
        made = made.view(kind).reshape(sides)
    else:
        made = torch.empty(sides, dtype=kind)
    if one_of(form, "tensor", "parameter") == "parameter":
        return torch.nn.Parameter(made, requires_grad=exactly(gradient, bool))
    return made.requires_grad_(exactly(gradient, bool))


def torch_size(_: Context, sides: object) -> Any:
    """The shape of a tensor."""
    import torch

    return torch.Size([natural(side) for side in exactly(sides, list)])


def torch_device(_: Context, name: object) -> Any:
    """The name of a device; it need not exist here."""
    import torch

    if not _DEVICE.fullmatch(text(name)):
        raise UnsafeValue("The node named a device that is none.")
    return torch.device(str(name))


def jax_array(_: Context, values: object) -> Any:
    """An array of jax's where jax is loaded, else numpy's."""
    found = array_of(values)
    jax: Any = sys.modules.get("jax")
    return found if jax is None else jax.numpy.asarray(found)


TENSORS: dict[str, Callable[..., Any]] = {
    "tensor": tensor,
    "torch_dtype": torch_dtype,
    "torch_size": torch_size,
    "torch_device": torch_device,
    "jax_array": jax_array,
}
