"""The attach command: copies bytes between stdin/stdout and a session's socket. Imports little, so that it starts fast.

It ends on end of input of either side, and after `SILENCE` seconds without a byte from stdin (a gateway sends a PING
every few seconds; one that sends nothing is gone). It never ends a session.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import stat
import time

__all__ = ["SILENCE", "pump"]

SILENCE = 60.0
"""Seconds without a byte from stdin after which the command ends."""

_CHUNK = 256 * 1024
_FAREWELL = 1.0  # seconds that the gateway has to close its side


class _Way:
    """One direction: reads from `source` while the bytes read before were written to `target`."""

    def __init__(self, source: int, target: int) -> None:
        self.source = source
        self.target = target
        self.waiting = b""

    def read(self) -> bool:
        """Take a chunk in; False at the end of input."""
        self.waiting = os.read(self.source, _CHUNK)
        return bool(self.waiting)

    def write(self) -> None:
        """Write some of what waits."""
        self.waiting = self.waiting[os.write(self.target, self.waiting) :]

    def try_write(self) -> None:
        """Write, or drop what nobody takes any more: what the session said before it went is still to be handed on."""
        try:
            self.write()
        except BlockingIOError:
            return
        except OSError:
            self.waiting = b""


def _see_off(source: int, target: int) -> None:
    """Say that no more comes, and take in for a moment what is still said: a write that fails would cost the reader our last words."""
    if stat.S_ISSOCK(os.fstat(target).st_mode):
        with socket.socket(fileno=os.dup(target)) as half:
            half.shutdown(socket.SHUT_WR)
    else:
        os.close(target)
    poll, until = select.poll(), time.monotonic() + _FAREWELL
    poll.register(source, select.POLLIN)
    while (rest := until - time.monotonic()) > 0 and poll.poll(rest * 1000) and os.read(source, _CHUNK):
        continue


def pump(there: int, source: int = 0, target: int = 1, silence: float = SILENCE) -> None:
    """Copy until a side ends; all are descriptors, `there` of the session's connected socket.

    SIGTERM does not end it: a scheduler sends that to all steps of a job, and the session's last words are yet to come.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    up, down = _Way(source, there), _Way(there, target)
    for descriptor in (source, target, there):
        os.set_blocking(descriptor, False)
    poll = select.poll()
    watched: dict[int, int] = {}
    heard = time.monotonic()
    while True:
        _watch(poll, watched, up, down)
        rest = heard + silence - time.monotonic()
        if rest <= 0:
            return
        events = dict(poll.poll(rest * 1000))
        try:
            if events.get(source) and not up.waiting:
                heard = time.monotonic()
                if not up.read():
                    return
            if events.get(there, 0) & ~select.POLLOUT and not down.waiting and not down.read():
                _see_off(source, target)
                return
            if up.waiting:
                up.try_write()
            if down.waiting:
                down.write()
            elif events.get(target, 0) & ~select.POLLOUT and not up.waiting and not events.get(source, 0) & select.POLLIN:
                return  # nobody reads any more, and all that they said is handed on
        except BlockingIOError:
            continue
        except OSError:  # the other side is gone
            return


def _watch(poll: select.poll, watched: dict[int, int], up: _Way, down: _Way) -> None:
    wanted: dict[int, int] = {down.target: 0}
    for way in (up, down):
        if way.waiting:
            wanted[way.target] = wanted.get(way.target, 0) | select.POLLOUT
        else:
            wanted[way.source] = wanted.get(way.source, 0) | select.POLLIN
    for descriptor in set(watched) - set(wanted):
        poll.unregister(descriptor)
        del watched[descriptor]
    for descriptor, mask in wanted.items():
        if watched.get(descriptor) != mask:
            poll.register(descriptor, mask)
            watched[descriptor] = mask
