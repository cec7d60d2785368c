"""GPUs in Slurm's words: what a GRES or TRES text counts, what a type is called, and which type fits a request."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence

from jupyter_remote_gpu.models import ResourceRequest
from remote_gpu.errors import UsageProblem

__all__ = ["accelerator_of", "architecture_of", "choose_type", "fits", "gpus_of", "is_slice", "memory_of"]

_MEMORY_GB = {
    # NVIDIA
    "p100": (12, 16), "v100": (16, 32), "v100s": (32,), "v100l": (32,), "t4": (16,), "a2": (16,), "a10": (24,), "a16": (16,), "a30": (24,),
    "a40": (48,), "a100": (40, 80), "a100l": (80,), "a800": (40, 80), "l4": (24,), "l40": (48,), "l40s": (48,), "h20": (96,), "h100": (80,),
    "h200": (141,), "h800": (80,), "gh200": (96, 144), "b200": (180,), "gb200": (186,), "a4000": (16,), "a5000": (24,), "a6000": (48,),
    "3090": (24,), "4090": (24,), "5090": (32,),
    # AMD; an MI250 is two GPUs to its software
    "mi100": (32,), "mi210": (64,), "mi250": (64,), "mi250x": (64,), "mi300a": (128,), "mi300x": (192,), "mi325x": (256,), "mi355x": (288,),
}  # fmt: skip
"""GB of each card, as the makers publish it; not each was looked up again. Of several sizes the least counts: more is not promised."""

_CALLED_GB = {"gh200": (120, 480)}
"""Sizes in a model's name that are not its GPU's memory: the driver says "GH200 120GB" of the board with 120 GB for the CPU."""

_NOISE = {
    "nvidia", "amd", "intel", "gpu", "tesla", "geforce", "quadro", "instinct", "rtx", "gtx", "graphics", "data", "center", "hbm2", "hbm2e",
    "hbm3", "hbm3e", "sxm", "sxm2", "sxm3", "sxm4", "sxm5", "pcie", "mig",
}  # fmt: skip
"""Words of a full name that many sites leave out of their type."""

_SLICE = re.compile(r"\d+g\.\d+gb")
_SIZE = re.compile(r"(?:\d+g\.)?(\d+)gi?b?")
_GIB = 1024
_ARCHITECTURES = {"aarch64": "aarch64", "arm64": "aarch64", "arm": "aarch64", "x86_64": "x86_64", "amd64": "x86_64", "x86-64": "x86_64"}


def gpus_of(text: str) -> dict[str, int]:
    """How many GPUs of which type ("" = not said) a GRES or TRES text has; of MIG slices, how many slices.

    Reads ``gpu:h100:4(S:0-1)``, ``gres:gpu:2``, ``gres/gpu:h100:2`` and ``cpu=1,gres/gpu=2,gres/gpu:h100=2``, in which
    the entry without a type is the sum of all; ``(null)`` has none.
    """
    return dict(_counted(text))


@functools.lru_cache(maxsize=4096)  # like nodes say the same, and at each look
def _counted(text: str) -> tuple[tuple[str, int], ...]:
    counts: dict[str, int] = {}
    total = 0
    for item in re.sub(r"\([^)]*\)", "", text).split(","):
        word, equals, amount = re.sub(r"^\s*gres[:/]", "", item).strip().partition("=")
        parts = [part for part in word.split(":") if part != "no_consume"]
        if parts[0] != "gpu":
            continue
        if not equals:
            amount = parts.pop() if len(parts) > 1 and parts[-1].isdecimal() else "1"
        model, number = ":".join(parts[1:]), int(amount) if amount.isdecimal() else 0
        if equals and not model:
            total = number
        else:
            counts[model] = counts.get(model, 0) + number
    if total > sum(counts.values()):
        counts[""] = total - sum(counts.values())
    return tuple((model, number) for model, number in counts.items() if number)


def is_slice(gres_type: str) -> bool:
    """Whether a type is a part of a GPU (MIG): ``a100_1g.5gb``."""
    return _SLICE.search(gres_type.lower()) is not None


@functools.lru_cache(maxsize=256)
def memory_of(gres_type: str) -> int:
    """The MiB that a GPU of this type has at least, by the size on its label (80 GB = 81920); 0 when nobody knows."""
    return min(_sizes(gres_type), default=0) * _GIB


@functools.lru_cache(maxsize=256)
def accelerator_of(gres_type: str) -> str:
    """The API that a type is programmed with: "rocm" for AMD's, "xpu" for Intel's, else "cuda"."""
    words = _words(gres_type)
    if any(re.fullmatch(r"mi\d+[a-z]?", word) for word in words) or "amd" in words:
        return "rocm"
    return "xpu" if words & {"pvc", "intel", "max1550", "max1100"} else "cuda"


def architecture_of(gres_type: str, features: Iterable[str] = ()) -> str:
    """The CPU beside the GPU, as far as a node's features or the type say it; "" when they do not."""
    return _architecture(gres_type, tuple(features))


@functools.lru_cache(maxsize=1024)
def _architecture(gres_type: str, features: tuple[str, ...]) -> str:
    for feature in features:
        if feature.lower() in _ARCHITECTURES:
            return _ARCHITECTURES[feature.lower()]
    return "aarch64" if re.search(r"\bg[bh]\d00", gres_type.lower().replace("_", " ")) else ""


def choose_type(request: ResourceRequest, known: Sequence[str], where: str = "This cluster") -> str:
    """The type to name in `request`'s options: one of `known`, or "" when any will do.

    A part of a GPU is taken only when it is asked for (``1g.10gb``). Of several that fit, the one whose name says most of
    what was asked for, then the smallest. Raises `UsageProblem` with the known types when none fits.
    """
    asked, least = request.gpu_model.strip(), request.gpu_memory_mb
    if request.gpus == 0 or not (asked or least):
        return ""
    types = [name for name in dict.fromkeys(known) if name]
    fitting = [name for name in types if name.lower() == asked.lower()] or [name for name in types if fits(asked, name)]
    enough = [name for name in fitting if memory_of(name) >= least]
    if not enough:
        raise _nothing(where, asked, least, types)
    return min(enough, key=lambda name: (-len(_words(asked) & _words(name)), memory_of(name)))


def fits(asked: str, name: str) -> bool:
    """Whether a GPU of the type or model `name` is what was asked for: L40 is not L40S, and a part of a GPU must be asked for."""
    wanted, has = _words(asked), _words(name)
    if is_slice(asked) != is_slice(name):
        return False
    for word in wanted - has - _NOISE:
        size = _SIZE.fullmatch(word)
        if not size or int(size[1]) not in (min(_sizes(name), default=0), *_called(has)):
            return False
    return bool(wanted & has) or not wanted - _NOISE


def _sizes(name: str) -> tuple[int, ...]:
    part = _SLICE.search(name.lower())
    if part:
        return (int(part[0].partition(".")[2].removesuffix("gb")),)
    words = _words(name)
    said = tuple(int(found[1]) for word in words if (found := _SIZE.fullmatch(word)) and not is_slice(word))
    return said or tuple(size for word in words for size in _MEMORY_GB.get(word, ()))


def _called(words: set[str]) -> tuple[int, ...]:
    return tuple(size for word in words for size in _CALLED_GB.get(word, ()))


def _words(name: str) -> set[str]:
    text = re.sub(r"(\d)\s+(gi?b)\b", r"\1\2", name.lower().replace("_", " "))
    text = re.sub(r"\b([rg]tx)(?=[a-z]?\d)", r"\1 ", text)
    return {re.sub(r"gib$", "gb", word) for word in re.split(r"[\s\-/():,]+", text) if word}


def _nothing(where: str, asked: str, least: int, types: Sequence[str]) -> UsageProblem:
    wish = f"{asked or 'GPU'}{f' with {least} MiB' if least else ''}"
    if not types:
        message = f"{where} does not say which GPUs it has, so {wish} cannot be asked for by name."
        return UsageProblem(message, hint="Leave the model and its memory out, or choose the nodes by partition or constraint.")
    known = ", ".join(f"{name} ({memory_of(name) // _GIB or '?'} GB)" for name in types)
    return UsageProblem(f"{where} has no {wish}.", hint=f"It has {known}.", known=list(types))
