"""One process that plays the notebooks of many sessions: ``python -m benchmarks.listeners``.

It reads a connection file's JSON a line and listens to each of these kernels. For each empty line it answers with a line of JSON: how many lines came since
the one before, and how many milliseconds after they were printed (each line ends in the time of day).
"""

from __future__ import annotations

import json
import os
import sys
import time

import zmq


class Listeners:
    """All of them."""

    def __init__(self) -> None:
        self._context = zmq.Context()
        self._poller = zmq.Poller()
        self._poller.register(sys.stdin.fileno(), zmq.POLLIN)
        self._delays: list[float] = []
        self._kept = b""

    def serve(self) -> None:
        """Until stdin ends."""
        while True:
            for source, _ in self._poller.poll():
                if not isinstance(source, int):
                    self._take(source)
                elif data := os.read(source, 1 << 16):
                    *lines, self._kept = (self._kept + data).split(b"\n")
                    for line in lines:
                        self._obey(line)
                else:
                    return

    def _obey(self, line: bytes) -> None:
        if line:
            info = json.loads(line)
            listener = self._context.socket(zmq.SUB)
            listener.linger = 0
            listener.subscribe(b"")
            listener.connect(f"ipc://{info['ip']}-{info['iopub_port']}")
            self._poller.register(listener, zmq.POLLIN)
            return
        delays, self._delays = sorted(self._delays), []
        middle, late = (delays[len(delays) // 2], delays[int(len(delays) * 0.95)]) if delays else (0.0, 0.0)
        print(json.dumps({"lines": len(delays), "median": middle, "p95": late}), flush=True)

    def _take(self, source: zmq.Socket[bytes]) -> None:
        now = time.time()
        parts = source.recv_multipart()
        if b'"msg_type": "stream"' in parts[3]:
            printed = json.loads(parts[6])["text"].split()
            self._delays += [(now - float(moment)) * 1000 for moment in printed[2::3]]


if __name__ == "__main__":
    Listeners().serve()
