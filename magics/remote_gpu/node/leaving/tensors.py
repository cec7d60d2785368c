"""torch's tensors, and jax's arrays. What lies on a GPU leaves it only when the user asks for the value."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from remote_gpu.node.leaving.arrays import Writable
from remote_gpu.node.leaving.calls import Reduction, Sender, Unsupported, build

__all__ = ["find", "find_jax"]

_Reducer = Callable[[Any, Sender], Reduction]


def find(kind: type) -> _Reducer | None:
    """The reducer of a type of torch's."""
    torch: Any = sys.modules["torch"]
    found: dict[type, _Reducer] = {
        torch.Tensor: lambda value, sender: _tensor("tensor", value, sender),
        torch.nn.Parameter: lambda value, sender: _tensor("parameter", value, sender),
        torch.Size: lambda value, _: build("torch_size", list(value)),
        torch.dtype: lambda value, _: build("torch_dtype", str(value).partition(".")[2]),
        torch.device: lambda value, _: build("torch_device", str(value)),
    }
    return found.get(kind)


def _tensor(form: str, value: Any, sender: Sender) -> Reduction:
    torch: Any = sys.modules["torch"]
    if value.layout is not torch.strided or value.is_quantized or value.device.type == "meta":
        raise Unsupported(f"a tensor of the layout {value.layout}")
    if value.device.type != "cpu" and not sender.forced:
        raise Unsupported(f"a tensor on {value.device}")
    found = value.detach()
    size = found.numel() * found.element_size()
    if value.device.type != "cpu" or not found.is_contiguous():
        sender.reserve(size)
    found = found.cpu().resolve_conj().resolve_neg().contiguous()
    about = (str(found.dtype).partition(".")[2], list(found.shape), bool(value.requires_grad))
    if not size:
        return build("tensor", form, b"", *about)
    return build("tensor", form, sender.memory(memoryview(found.reshape(-1).view(torch.uint8).numpy())), *about)


def find_jax(kind: type) -> _Reducer | None:
    """The reducer of jax's arrays."""
    jax: Any = sys.modules.get("jax")
    return _jax_array if jax is not None and issubclass(kind, jax.Array) else None


def _jax_array(value: Any, sender: Sender) -> Reduction:
    np: Any = sys.modules["numpy"]  # jax needs it

    if any(device.platform != "cpu" for device in value.devices()) and not sender.forced:
        raise Unsupported("an array on a GPU")
    return build("jax_array", Writable(np.asarray(value)))
