"""A widget that is moved: from the frontend's message to the updated output, for a remote and a local kernel's widget.

A frontend speaks with a kernel through its Jupyter server's WebSocket, so that is what the goal is about; the same at the kernel's
own sockets is measured beside it, as it is the harder comparison. `slider` prints in its callback; `interact` updates an Output widget.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from benchmarks.notebook import Notebook, notebook
from benchmarks.report import Row
from benchmarks.websocket import Socket, server

LOAD = "%load_ext remote_gpu"
SLIDER = """\
import ipywidgets
slider = ipywidgets.IntSlider(value=0, max=10**9)
slider.observe(lambda change: print('moved to', change['new']), 'value')
print(slider.model_id)"""
INTERACT = """\
import ipywidgets
shown = ipywidgets.interactive(lambda n: print('moved to', n), n=(0, 10**9))
print(shown.children[0].model_id)"""
CASES = {"slider": SLIDER, "interact": INTERACT}
PREFIXES = {"plain ipykernel": "", "remote_gpu": "%%remote_gpu\n"}


def _update(comm_id: str, value: int) -> dict[str, Any]:
    return {"comm_id": comm_id, "data": {"method": "update", "state": {"value": value}, "buffer_paths": []}}


def _moved(book: Notebook, comm_id: str, value: int) -> float:
    """Milliseconds from the message to the output, at the kernel's sockets."""
    client = book.client
    message = client.session.msg("comm_msg", _update(comm_id, value))
    start, shown, said = time.perf_counter(), 0.0, ""
    client.shell_channel.send(message)
    while True:
        heard = client.get_iopub_msg(timeout=30)
        if heard["parent_header"].get("msg_id") != message["header"]["msg_id"]:
            continue
        said += heard["content"]["text"] if heard["msg_type"] == "stream" else ""
        if not shown and f"moved to {value}\n" in said:
            shown = (time.perf_counter() - start) * 1000
        if heard["msg_type"] == "status" and heard["content"]["execution_state"] == "idle":
            if not shown:
                raise _missing(said)
            return shown


async def _moved_far(socket: Socket, comm_id: str, value: int) -> float:
    """The same, through the server."""
    start = time.perf_counter()
    heard = await socket.caused(await socket.send("comm_msg", _update(comm_id, value)))
    said = ""
    for when, kind, content in heard:
        said += content["text"] if kind == "stream" else ""
        if f"moved to {value}\n" in said:
            return (when - start) * 1000
    raise _missing(heard)


def _missing(heard: object) -> RuntimeError:
    return RuntimeError(f"the widget's output did not come, but {heard}")


def _rows(case: str, values: dict[str, list[float]], goal: str) -> list[Row]:
    return [
        Row(case, who, "ms", tuple(found), "" if who == "plain ipykernel" else "plain ipykernel", goal if who == "remote_gpu" else "")
        for who, found in values.items()
    ]


def _at_the_sockets(count: int) -> list[Row]:
    rows: list[Row] = []
    with notebook() as plain, notebook(LOAD) as ours:
        books = {"plain ipykernel": plain, "remote_gpu": ours}
        for name, code in CASES.items():
            ids = {who: book.run(PREFIXES[who] + code).text[-1].strip().splitlines()[-1] for who, book in books.items()}
            values: dict[str, list[float]] = {who: [] for who in books}
            for n in range(1, count + 11):
                for who, book in books.items():
                    took = _moved(book, ids[who], n)
                    if n > 10:
                        values[who].append(took)
            rows += _rows(f"{name}, at the kernel's sockets", values, "")
        ours.run("%remote_gpu stop")
    return rows


async def _through_the_server(url: str, count: int) -> list[Row]:
    rows: list[Row] = []
    sockets = {who: await Socket.open(url) for who in PREFIXES}
    await sockets["remote_gpu"].run(LOAD)
    for name, code in CASES.items():
        ids = {who: (await socket.run(PREFIXES[who] + code)).strip().splitlines()[-1] for who, socket in sockets.items()}
        values: dict[str, list[float]] = {who: [] for who in sockets}
        for n in range(1, count + 11):
            for who, socket in sockets.items():
                took = await _moved_far(socket, ids[who], n)
                if n > 10:
                    values[who].append(took)
        rows += _rows(f"{name}, through the Jupyter server", values, "≤ 2 × plain")
    await sockets["remote_gpu"].run("%remote_gpu stop")
    for socket in sockets.values():
        socket.close()
    return rows


def measure(quick: bool = False) -> list[Row]:
    """Both ways; `quick` takes few rounds."""
    count = 40 if quick else 300
    with server() as url:
        rows = asyncio.run(_through_the_server(url, count))
    return [*rows, *_at_the_sockets(count)]
