"""What a cell prints: in the order in which it was printed, on both streams, from threads and forks too."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from ipykernel.iostream import IOPubThread
from tests.node.client import Client

from remote_gpu.frames import Lane
from remote_gpu.node.printing import BUSY_FLUSH, FIRST_FLUSH, PrivateIOPubThread


def printed(client: Client, cell: str) -> list[tuple[str, str]]:
    """(stream, text) of a cell as a reader sees them: neighbours on one stream are one."""
    seen: list[tuple[str, str]] = []
    for got in client.of(cell, "stream"):
        name, text = got.content["name"], got.content["text"]
        if seen and seen[-1][0] == name:
            seen[-1] = (name, seen[-1][1] + text)
        else:
            seen.append((name, text))
    return seen


def test_text_on_both_streams_keeps_its_order_without_any_flush(client: Client) -> None:
    cell = client.execute("import sys\nfor n in range(200):\n    print('out', n); print('out again')\n    print('err', n, file=sys.stderr)")
    client.finish(cell)
    expected = [pair for n in range(200) for pair in (("stdout", f"out {n}\nout again\n"), ("stderr", f"err {n}\n"))]
    assert printed(client, cell) == expected


def test_displays_and_results_stand_behind_the_text_before_them(client: Client) -> None:
    cell = client.execute("import sys\nprint('one'); print('two', file=sys.stderr); display('three'); print('four', file=sys.stderr)\n5")
    client.finish(cell)
    shown = [got for got in client.got if got.parent_id == cell and got.type in ("stream", "display_data", "execute_result")]
    assert [got.content.get("text", "") or got.content["data"]["text/plain"] for got in shown] == [
        *("one\n", "two\n", "'three'", "four\n", "5")
    ]


def test_each_thread_keeps_the_order_of_its_own_text(client: Client) -> None:
    code = """
import sys, threading
def talk(name):
    for n in range(300):
        (sys.stdout, sys.stderr)[n % 2].write(f'{name} {n}\\n')
threads = [threading.Thread(target=talk, args=(name,)) for name in 'abc']
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""
    cell = client.execute(code)
    client.finish(cell)
    text = "".join(got.content["text"] for got in client.of(cell, "stream"))
    for name in "abc":
        assert [line for line in text.splitlines() if line.startswith(name)] == [f"{name} {n}" for n in range(300)]


def test_text_that_is_being_sent_when_the_cell_ends_comes_before_its_end(client: Client) -> None:
    code = """
import sys, threading
kind = type(sys.stdout)
plain, taken = kind.publish, threading.Event()
def slowly(self, buffers):
    taken.set()
    threading.Event().wait(0.3)
    plain(self, buffers)
kind.publish = slowly
print('text')
assert taken.wait(20)
"""
    cell = client.execute(code)
    client.finish(cell)
    client.stream.until(lambda: client.text(cell))
    assert [got.type for got in client.got if got.parent_id == cell and got.lane is Lane.IOPUB] == [
        "status",
        "execute_input",
        "stream",
        "status",
    ]


def test_a_forked_child_prints_too(client: Client) -> None:
    code = "import os, sys\nprint('before', file=sys.stderr)\npid = os.fork()\nif not pid:\n    print('child'); os._exit(0)\n_ = os.waitpid(pid, 0)"
    cell = client.execute(code)
    client.finish(cell)
    client.stream.until(lambda: client.text(cell) == "child\n")
    assert client.text(cell, "stderr") == "before\n"


def test_a_long_print_is_sent_in_large_pieces(client: Client) -> None:
    cell = client.execute("for n in range(50_000): print(n)")
    client.finish(cell)
    assert client.text(cell).split() == [str(n) for n in range(50_000)]
    assert len(client.of(cell, "stream")) < 500
    assert FIRST_FLUSH < BUSY_FLUSH


def test_the_news_of_a_busy_kernel_travels_with_what_follows_it_or_after_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[bytes] = []
    monkeypatch.setattr(IOPubThread, "_really_send", lambda _, message: sent.append(message[-1]))
    later: list[Callable[[], None]] = []
    thread = PrivateIOPubThread.__new__(PrivateIOPubThread)
    thread._master_pid = os.getpid()
    thread.thread = threading.current_thread()
    thread.io_loop = SimpleNamespace(call_later=lambda _, action: later.append(action))
    busy, idle, text = b'{"execution_state": "busy"}', b'{"execution_state": "idle"}', b'{"text": "busy"}'

    thread._really_send([b"kernel.1.status", busy])
    assert sent == []
    thread._really_send([b"kernel.1.stream", text])
    assert sent == [busy, text]
    later.pop()()
    thread._really_send([b"kernel.1.status", idle])
    assert sent == [busy, text, idle]
    thread._really_send([b"kernel.1.status", busy])
    later.pop()()
    assert sent == [busy, text, idle, busy]

    thread._really_send([b"kernel.1.status", busy])
    thread._master_pid = 0  # as in a forked child, which must not say again what its parent will say
    thread._really_send([b"kernel.1.stream", text])
    assert sent == [busy, text, idle, busy, text]
