"""The carbon intensity of Great Britain's grid just now, from a service of the form of the UK's Carbon Intensity API, if one is configured.

``GET`` answers ``{"data": [{"intensity": {"forecast": 266, "actual": 263, …}, …}]}``; the regional form has the same one level deeper
(``data[].data[]``) and only a forecast. Nobody ever waits for it: who asks gets what was heard last, and an old figure is asked for anew beside that.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from jupyter_remote_gpu.carbon import Basis, Intensity
from remote_gpu.errors import UsageProblem

__all__ = ["COUNTRY", "LiveCarbon", "check_source", "parse_intensity"]

COUNTRY = "GB"
"""Whose grid it is."""

_LIMIT = 2.0
_FRESH = 1800.0
_STALE = 7200.0  # seconds after which a figure says nothing of now any more
_AGAIN = 300.0  # seconds until a source that failed is asked again
_MOST = 2000.0
_BYTES = 1 << 20

Fetch = Callable[[str], Awaitable[bytes]]


class LiveCarbon:
    """One source. All calls come from the gateway's event loop; `fetch` raises OSError, ValueError or TimeoutError when it fails."""

    def __init__(self, url: str, *, log: logging.Logger, fetch: Fetch | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._log = log
        self._fetch = fetch or _get
        self._clock = clock
        self._known: Intensity | None = None
        self._heard = self._asked = float("-inf")
        self._task: asyncio.Task[None] | None = None

    def now(self) -> Intensity | None:
        """What was heard last, if that is not too old; begins to ask anew when it is time to."""
        now = self._clock()
        wanted = now - self._heard >= _FRESH and now - self._asked >= _AGAIN
        if self._url and wanted and (self._task is None or self._task.done()):
            self._asked = now
            self._task = asyncio.create_task(self._ask(), name="carbon intensity")
        return self._known if now - self._heard < _STALE else None

    async def aclose(self) -> None:
        """Stop asking."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _ask(self) -> None:
        try:
            async with asyncio.timeout(_LIMIT):
                grams, how = parse_intensity(await self._fetch(self._url))
        except (OSError, ValueError, TimeoutError) as error:
            said = f"no answer within {_LIMIT:g} s" if isinstance(error, TimeoutError) else str(error)
            self._log.info("The carbon intensity of the grid is not known just now (%s): %s", urlsplit(self._url).hostname, said)
            return
        source = f"{urlsplit(self._url).hostname}, {how}"
        self._known, self._heard = Intensity(grams, Basis.LIVE, source, COUNTRY), self._clock()


def check_source(url: str) -> str:
    """`url`; raises `UsageProblem` when it cannot be a source."""
    parts = urlsplit(url)
    if url and (parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password):
        message = f"The setting RemoteGpu.carbon_source cannot be {url!r}."
        raise UsageProblem(message, hint="Give an address that begins with https://, without a user's name in it; or leave it empty.")
    return url


def parse_intensity(answer: bytes) -> tuple[float, str]:
    """(grams of CO₂e for a kWh, "measured" or "forecast") of what such a service answers. Raises ValueError for anything else."""
    slot: Any = json.loads(answer)
    for _ in range(2):  # national: one list deep; regional: two
        slot = slot["data"][0] if isinstance(slot, dict) and isinstance(slot.get("data"), list) and slot["data"] else slot
    told = slot.get("intensity") if isinstance(slot, dict) else None
    if isinstance(told, dict):
        for name, how in (("actual", "measured"), ("forecast", "forecast")):
            value = told.get(name)
            if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and 0 <= value <= _MOST:
                return float(value), how
    raise ValueError("its answer has no intensity")


async def _get(url: str) -> bytes:
    from tornado.httpclient import AsyncHTTPClient, HTTPClientError

    client = AsyncHTTPClient(force_instance=True, defaults={"connect_timeout": _LIMIT, "request_timeout": _LIMIT}, max_body_size=_BYTES)
    try:
        return (await client.fetch(url, headers={"Accept": "application/json"}, follow_redirects=False)).body
    except HTTPClientError as error:
        raise OSError(str(error)) from error
    finally:
        client.close()
