"""What matters for a selection beside the request, from its JSON: checked once, with the nearest name for a mistyped one."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from typing import Any

from jupyter_remote_gpu.models import ResourceRequest
from jupyter_remote_gpu.selection import Demand, Preference
from remote_gpu.errors import UsageProblem

__all__ = ["demand_from"]

_TEXTS = ("cpu_arch", "accelerator", "project", "data_class", "run_on")
_LISTS = ("countries", "only", "exclude")
_WEIGHTS = ("time", "cost", "carbon", "distance")
_KNOWN = (*_TEXTS, *_LISTS, "internet", "prefer", "run_seconds", "data_mb")


def demand_from(value: Any, resources: ResourceRequest) -> Demand:
    """A `Demand` for `resources`. Raises `UsageProblem` for a name or value that cannot be."""
    if value is None:
        return Demand(resources)
    if not isinstance(value, Mapping):
        raise UsageProblem(f"'demand' must be an object, not {value!r}.")
    for key in value:
        if key not in _KNOWN:
            near = difflib.get_close_matches(str(key), _KNOWN, n=1)
            raise UsageProblem(f"A demand has no {key!r}.", hint=f"Did you mean {near[0]!r}?" if near else f"It has {', '.join(_KNOWN)}.")
    said: dict[str, Any] = {key: _text(key, value[key]) for key in _TEXTS if key in value}
    said |= {key: _list(key, value[key]) for key in _LISTS if key in value}
    return Demand(
        resources,
        **said,
        internet=_flag(value.get("internet", False)),
        prefer=_prefer(value.get("prefer", Preference.SOONEST)),
        run_seconds=_number("run_seconds", value.get("run_seconds", 0.0)),
        data_mb={str(name): _number("data_mb", amount) for name, amount in _mapping("data_mb", value.get("data_mb", {})).items()},
    )


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str):
        raise UsageProblem(f"{key!r} of a demand must be a text, not {value!r}.")
    return value.strip()


def _list(key: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise UsageProblem(f"{key!r} of a demand must be a list of texts, not {value!r}.")
    return tuple(value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise UsageProblem(f"'internet' of a demand must be true or false, not {value!r}.")
    return value


def _number(key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise UsageProblem(f"{key!r} of a demand must be a number of at least 0, not {value!r}.")
    return float(value)


def _mapping(key: str, value: Any) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise UsageProblem(f"{key!r} of a demand must be an object, not {value!r}.")
    return value


def _prefer(value: Any) -> Preference | Mapping[str, float]:
    if isinstance(value, str):
        if value in set(Preference):
            return Preference(value)
        near = difflib.get_close_matches(value, [str(each) for each in Preference], n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"Say {', '.join(Preference)}, or weights of {', '.join(_WEIGHTS)}."
        raise UsageProblem(f"Nothing is preferred by {value!r}.", hint=hint)
    return {str(term): _number("prefer", weight) for term, weight in _mapping("prefer", value).items()}
