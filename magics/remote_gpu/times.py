"""Moments as the API has them (ISO 8601), and as people say them."""

from __future__ import annotations

import datetime as dt
import time

from remote_gpu.record import duration

__all__ = ["clock", "end_in_words", "left_in_words", "moment"]

_WEEK = 7 * 24 * 3600


def moment(text: str) -> float:
    """A time of the API in seconds since the epoch; 0.0 for a text that is none."""
    try:
        return dt.datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0


def clock(seconds: float, now: float | None = None) -> str:
    """A moment in the user's own time zone: 14:05, on another day Tue 14:05, more than a week away 3 Mar 14:05."""
    here, today = time.localtime(seconds), time.localtime(now)
    if here[:3] == today[:3]:
        return time.strftime("%H:%M", here)
    near = abs(seconds - time.mktime(today)) < _WEEK
    return time.strftime("%a %H:%M", here) if near else f"{here.tm_mday} {time.strftime('%b %H:%M', here)}"


def left_in_words(ends: str, now: float | None = None) -> str:
    """How long it is until `ends` (a time of the API): 1 h 20 min; "" when that is not known, "0 s" when it is past."""
    at = moment(ends)
    left = at - (time.time() if now is None else now)
    return "" if not at else duration(left) if left > 0 else "0 s"


def end_in_words(ends: str, now: float | None = None) -> str:
    """As in "ends 14:05, in 1 h 20 min"; "" when no end is known."""
    left = left_in_words(ends, now)
    return f"ends {clock(moment(ends), now)}, in {left}" if left else ""
