"""The verbs ``data-relay SCRATCH COMMAND…`` on a login node and ``data SESSION FOLDER`` on a compute node: a data stream by way of a shared folder.

Slurm copies the stdin and stdout of a step twice, at a tenth of what a network carries. The relay runs the node's ``data`` by such a step all
the same, and both hand to each other in files what is large (see `pieces`). docs/reference/data-stream.md has the protocol.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from remote_gpu.errors import BadFrame, LinkProblem, RemoteGpuError, from_problem
from remote_gpu.node.pieces import Pieces
from remote_gpu.node.pipes import pipe, widen
from remote_gpu.node.spool import NODE, Spool
from remote_gpu.transfer.frames import Op, Reader, head_of, preamble, write_all

__all__ = ["on_login", "on_node"]

_BEGIN = 60.0  # seconds that a step may take to begin
_BEAT = 20.0  # seconds after which the folder's time is renewed
_LEFT = 20.0  # seconds that the node has to end once the notebook is gone
_LEAVE = 5.0  # seconds that the other end has to end by itself
_HEARD = 10.0  # seconds that the last words have to be taken
_REFUSED = 4


def on_login(scratch: str, command: Sequence[str]) -> int:
    """Relay between stdin/stdout and `command` (which is given the folder as its last word) until one ends; returns an exit status.

    What keeps it from beginning it says on stderr, and nothing on stdout.
    """
    incoming, outgoing = os.dup(0), os.dup(1)
    os.dup2(2, 1)  # what something prints must not get into the stream
    widen(incoming)
    widen(outgoing)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    try:
        spool = _made(scratch)
    except RemoteGpuError as error:
        return _refused(error)
    process: subprocess.Popen[bytes] | None = None
    try:
        process = subprocess.Popen([*command, str(spool.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        return _relay(process, spool, incoming, outgoing)
    except OSError as error:
        return _refused(LinkProblem(f"{command[0]} cannot be run on {os.uname().nodename}: {error.strerror}."))
    except RemoteGpuError as error:
        return _refused(error)
    finally:
        if process is not None:
            _end(process)
        spool.remove()


def _relay(process: subprocess.Popen[bytes], spool: Spool, incoming: int, outgoing: int) -> int:
    if process.stdin is None or process.stdout is None:
        raise AssertionError
    reader = _met(process, spool, Reader(process.stdout.fileno()))
    pieces = Pieces(reader, process.stdin.fileno(), spool, incoming, outgoing)
    pieces.start()
    last = pieces.received[1]
    while last.is_alive() and pieces.sent[0].is_alive():
        last.join(_BEAT)
        spool.touch()
    last.join(_LEFT)
    process.stdin.close()
    if pieces.problem:
        return _refused(BadFrame(pieces.problem))
    with suppress(subprocess.TimeoutExpired):
        return process.wait(_LEAVE)
    return 1


def _met(process: subprocess.Popen[bytes], spool: Spool, reader: Reader) -> Reader:
    """The other end has shown that both see the same folder. Raises what it says of that, or `LinkProblem`."""
    if process.stdin is None:
        raise AssertionError
    mark = spool.owner()
    limit = threading.Timer(_BEGIN, process.kill)
    limit.daemon = True
    limit.start()
    try:
        write_all(process.stdin.fileno(), preamble() + head_of(Op.PIECE, {"number": 0, "size": len(mark)}))
        reader.greet()
        answer = reader.message()
    except OSError as error:
        raise LinkProblem(f"The step of the job ended before it began: {error.strerror}.") from error
    finally:
        limit.cancel()
    if answer is None:
        raise LinkProblem("The step of the job ended before it began.")
    if answer.op == Op.FAILED:
        raise from_problem(answer.meta.get("problem") or {})
    if answer.op != Op.PIECE or spool.read(0, len(mark)) != mark:
        raise LinkProblem(f"The scratch folder {spool.above} is not the same on {os.uname().nodename} and on the job's node.")
    return reader


def _made(scratch: str) -> Spool:
    path = Path(os.path.expandvars(scratch)).expanduser()
    if not path.is_absolute():
        raise LinkProblem(
            f"The scratch folder {scratch!r} is no absolute path on {os.uname().nodename}.", hint="Set the cluster's `scratch`."
        )
    try:
        return Spool.make(path)
    except OSError as error:
        message = f"The scratch folder {path} cannot be written on {os.uname().nodename}: {error.strerror}."
        raise LinkProblem(message, hint="Set the cluster's `scratch` to a folder of yours that its nodes share.") from error


def _refused(error: RemoteGpuError) -> int:
    print(error, file=sys.stderr, flush=True)  # noqa: T201  what the gateway hears
    return _REFUSED


def _end(process: subprocess.Popen[bytes]) -> None:
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with suppress(OSError):
                stream.close()
    for end in (None, process.terminate, process.kill):
        if end is not None:
            end()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_LEAVE)
            return


def _leave(*_: Any) -> NoReturn:
    sys.exit(128 + signal.SIGTERM)


def on_node(session: str, folder: str) -> int:
    """Serve as `data` does, for a relay whose `folder` this machine must see, too; returns an exit status."""
    from remote_gpu.node import data

    incoming, outgoing = os.dup(0), os.dup(1)
    os.dup2(2, 1)
    write_all(outgoing, preamble())
    reader = Reader(incoming)
    try:
        spool = _meet(reader, outgoing, folder)
    except LinkProblem as error:
        with suppress(OSError):
            write_all(outgoing, head_of(Op.FAILED, {"problem": error.problem()}))
        return _REFUSED
    (asked, to_us), (from_us, said) = pipe(), pipe()
    pieces = Pieces(reader, outgoing, spool, from_us, to_us)
    pieces.start()
    try:
        return data.serve(session, asked, said, pieces.note)
    finally:
        os.close(said)
        os.close(asked)
        pieces.finish(_HEARD)
        spool.remove()


def _meet(reader: Reader, outgoing: int, folder: str) -> Spool:
    reader.greet()
    message = reader.message()
    if message is None or message.op != Op.PIECE:
        raise BadFrame("The other end is no relay.")
    size = int(message.meta["size"])
    try:
        spool = Spool(Path(folder), NODE)
        spool.write(0, memoryview(spool.read(0, size)))
    except OSError as error:
        above = Path(folder).parent.parent
        message_ = f"The scratch folder {above} of the login node cannot be used on {os.uname().nodename}: {error.strerror}."
        raise LinkProblem(message_, hint="Set the cluster's `scratch` to a folder that its nodes share.") from error
    write_all(outgoing, head_of(Op.PIECE, {"number": 0, "size": size}))
    return spool
