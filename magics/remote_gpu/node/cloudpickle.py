"""cloudpickle for the node's half. In the bundle, the text of cloudpickle itself stands in this module's place, so nothing has
to be installed there and the user's own cloudpickle, if any, is not touched. Here it is the installed one.
"""

from __future__ import annotations

from typing import Any

__all__ = ["Pickler"]

from cloudpickle import cloudpickle

Pickler = cloudpickle.Pickler


def __getattr__(name: str) -> Any:
    return getattr(cloudpickle, name)
