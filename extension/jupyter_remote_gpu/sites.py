"""Where a cluster is and what holds there: the key ``site`` of a cluster's configuration, checked once, whatever the cluster's kind."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from jupyter_remote_gpu.offers import Site
from remote_gpu.errors import UsageProblem

__all__ = ["read_site"]

_CODES = {
    "country": re.compile(r"[A-Z]{2}"),
    "region": re.compile(r"[A-Z]{2}(?:-[A-Z0-9]{1,3})?"),
    "currency": re.compile(r"[A-Z]{3}"),
}
_WORD = re.compile(r"[^\s,;][^\n,;]{0,63}")
_NOT_A_COUNTRY = {"UK": "GB", "EN": "GB"}
_MOST_CARBON = 2000.0
"""Grams for a kWh; lignite alone makes some 1,200."""
_MEANS = {
    "country": "a country's two letters (ISO 3166-1), for example 'GB'",
    "region": "a region of it (ISO 3166-2), for example 'CA-QC'",
    "internet": "true or false: whether its nodes reach the internet",
    "data_classes": "a list of the classes of data that may be there, for example ['public']",
    "projects": "a list of the projects that may use it",
    "cost": "a number from 0: what an hour of one GPU costs",
    "currency": "the currency of `cost` (ISO 4217), for example 'GBP'",
    "carbon": f"a number from 0 to {_MOST_CARBON:g}: grams of CO₂e for a kWh",
}


def read_site(where: str, given: Any) -> Site:
    """The site that `given` describes; None and {} say nothing. Raises `UsageProblem`, whose message begins with `where`."""
    if given is None:
        return Site()
    if not isinstance(given, Mapping):
        raise UsageProblem(f"{where}: `site` must be an object, not {given!r}.", hint="For example {'country': 'GB', 'internet': false}.")
    names = [each.name for each in fields(Site)]
    for key in given:
        if key not in names:
            near = difflib.get_close_matches(str(key), names, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"A site has {', '.join(names)}."
            raise UsageProblem(f"{where}: a site has no {key!r}.", hint=hint)
    said = {key: value for key, value in given.items() if value is not None}
    site = Site(**{key: _value(where, key, value) for key, value in said.items()})
    return _whole(where, site)


def _value(where: str, key: str, value: Any) -> Any:
    if key in ("data_classes", "projects"):
        found: Any = _words(value)
    elif key == "internet":
        found = value if isinstance(value, bool) else None
    elif key in ("cost", "carbon"):
        found = _number(value, _MOST_CARBON if key == "carbon" else math.inf)
    else:
        found = _code(key, value)
    if found is None:
        raise UsageProblem(f"{where}: the `{key}` of its site cannot be {value!r}.", hint=f"It is {_MEANS[key]}.")
    if key == "country" and found in _NOT_A_COUNTRY:
        raise UsageProblem(f"{where}: there is no country {found!r}.", hint=f"Did you mean {_NOT_A_COUNTRY[found]!r}?")
    return found


def _code(key: str, value: Any) -> str | None:
    text = value.strip().upper() if isinstance(value, str) else None
    return text if not text or _CODES[key].fullmatch(text) else None


def _words(value: Any) -> tuple[str, ...] | None:
    if isinstance(value, str) or not isinstance(value, (list, tuple)):
        return None
    words = tuple(word.strip() if isinstance(word, str) else "" for word in value)
    return words if all(_WORD.fullmatch(word) for word in words) else None


def _number(value: Any, most: float) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) and 0 <= value <= most else None


def _whole(where: str, site: Site) -> Site:
    if site.region and site.country and not site.region.startswith(site.country):
        message = f"{where}: the region {site.region!r} of its site is not in the country {site.country!r}."
        raise UsageProblem(message, hint="A region begins with its country's two letters.")
    if site.cost is not None and not site.currency:
        raise UsageProblem(f"{where}: its site has a `cost` without a `currency`.", hint=f"Say {_MEANS['currency']}.")
    if site.region and not site.country:
        return replace(site, country=site.region[:2])
    return site
