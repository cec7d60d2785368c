"""What becomes of a forked child of the supervisor: an ordinary ipykernel, set for a remote session.

What differs from a plain one: printed text leaves within milliseconds, nothing is dropped on iopub, no TCP port is
opened, no history file is written, and an `execute_request` may say which number its cell has (metadata
``{"remote_gpu": {"execution_count": n}}``), so that tracebacks name the notebook's cell.

Imports ipykernel, so only a process that has it preloaded imports this module.
"""

from __future__ import annotations

import ast
import atexit
import builtins
import contextlib
import fcntl
import functools
import getpass
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import ipykernel.kernelapp
import zmq
from ipykernel.ipkernel import IPythonKernel
from ipykernel.kernelapp import IPKernelApp
from IPython.core.error import StdinNotImplementedError
from traitlets import Float, Type, Unicode
from traitlets.config import Config

from remote_gpu.node.asks import answer
from remote_gpu.node.cancels import NOT_BEGUN
from remote_gpu.node.energy import Meter
from remote_gpu.node.printing import PrivateIOPubThread, RemoteOutStream
from remote_gpu.node.spawn import keep_only, make_files_as_the_user_wants, replace_environment
from remote_gpu.node.turns import Turns
from remote_gpu.node.variables import Variables

__all__ = ["RemoteKernel", "RemoteKernelApp", "become_kernel"]

_EXIT_FAILED = 70
_NUDGES = (0.001, 0.01, 0.1)  # seconds


def _nobody_to_ask(prompt: object = "", *_: Any, **__: Any) -> str:
    raise StdinNotImplementedError(f"Nobody can answer {prompt!r}: this cell runs in the background.")


class RemoteKernel(IPythonKernel):
    """ipykernel's kernel; see the module for what differs."""

    _execute_sleep = Float(0.0)  # the plain kernel's pause against lost output; here nothing is lost
    session: Any
    shell: Any
    control_thread: Any
    io_loop: Any
    _aborts: str | None = None
    control_msg_types = [*IPythonKernel.control_msg_types, "remote_gpu_request"]  # noqa: RUF012  as the plain kernel has it

    @functools.cached_property
    def variables(self) -> Variables:
        """The user's names."""
        return Variables(self.shell, self._publish)

    def start(self) -> None:
        """Serve; an interrupt wakes a loop that waits with a cell for its ``await``, which it does not by itself."""
        super().start()
        self.io_loop.asyncio_loop.add_signal_handler(signal.SIGURG, lambda: None)  # any handler has all signals wake the loop
        signal.siginterrupt(signal.SIGURG, True)
        run, interrupted = self.shell.run_ast_nodes, ast.parse("raise KeyboardInterrupt").body

        async def run_ast_nodes(nodes: Any, *args: Any, **kwargs: Any) -> Any:
            stop = threading.current_thread() is threading.main_thread() and self.turns.starts()
            return await run(interrupted if stop else nodes, *args, **kwargs)

        self.shell.run_ast_nodes = run_ast_nodes

    def _send_interrupt_children(self) -> None:
        """Interrupt. A signal that comes just as Python begins to wait for a lock is not noticed before the next one, so there is one."""
        super()._send_interrupt_children()
        for delay in _NUDGES:
            self.control_thread.io_loop.call_later(delay, signal.pthread_kill, threading.main_thread().ident, signal.SIGURG)

    @property
    def _aborting(self) -> bool:
        """Whether the request that was just taken is dropped because one before it failed: only if both are of one client."""
        return self._aborts is not None and self._aborts == self._client()

    @_aborting.setter
    def _aborting(self, value: bool) -> None:
        self._aborts = self._client() if value else None

    def _client(self) -> str:
        return str(self.get_parent("shell").get("header", {}).get("session", ""))

    @functools.cached_property
    def meter(self) -> Meter:
        """Of the GPUs that this kernel sees."""
        return Meter()

    @functools.cached_property
    def turns(self) -> Turns:
        """Which cell's turn it is, and which are not to run."""
        return Turns(self._send_interrupt_children)

    async def remote_gpu_request(self, socket: Any, ident: Any, parent: dict[str, Any]) -> None:
        """Answer one of our own questions, beside whatever runs."""
        asked = parent["content"]
        if asked.get("ask") == "cancel":
            said = {"status": "ok", "was": self.turns.cancel(str(asked.get("id")))}
        else:
            said = answer(self.variables, asked)
        self.session.send(socket, "remote_gpu_reply", said, parent, ident)

    async def execute_request(self, stream: Any, ident: Any, parent: dict[str, Any]) -> None:
        """Run a cell, under the number that its notebook gave it when it says one."""
        with self._turn(parent) as begins, self._numbered(parent):
            if begins:
                await super().execute_request(stream, ident, parent)
            else:
                self.session.send(stream, "execute_reply", self._failed("Cancelled", NOT_BEGUN), parent, ident)

    async def do_execute(self, code: str, silent: bool, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Run a cell; an interrupt that comes just before or after its code is its own, too."""
        if self.get_parent()["header"].get("subshell_id"):  # beside the turns; signals do not reach it
            return await self._execute(code, silent, *args, **kwargs)
        try:
            with self.turns.running(), self._metered(silent):
                return await self._execute(code, silent, *args, **kwargs)
        except KeyboardInterrupt:
            return self._failed("KeyboardInterrupt", "")

    async def _execute(self, code: str, silent: bool, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Run a cell between taking in the names that come with it and saying what became of names."""
        parent = self.get_parent()
        about = (parent.get("metadata") or {}).get("remote_gpu")
        if not isinstance(about, dict) or about.keys() <= {"execution_count", "job"}:
            return dict(await super().do_execute(code, silent, *args, **kwargs))
        try:
            crossing = self.variables.begin(about, parent.get("buffers") or ())
            if crossing.refused:
                return {**crossing.refusal(), "execution_count": self.execution_count}
            reply: dict[str, Any] = await super().do_execute(code, silent, *args, **kwargs)
            crossing.end(ok=reply["status"] == "ok")
        except KeyboardInterrupt:  # while names were on their way, outside of the cell
            return {"status": "error", "ename": "KeyboardInterrupt", "evalue": "", "traceback": [], "execution_count": self.execution_count}
        return reply

    @contextlib.contextmanager
    def _metered(self, silent: bool) -> Iterator[None]:
        """Tell, after the body, what energy the GPUs took for it; to those who ask in our own way, and could read it."""
        asked = not silent and isinstance((self.get_parent().get("metadata") or {}).get("remote_gpu"), dict)
        if not asked:
            yield
            return
        self.meter.begin()
        try:
            yield
        finally:
            if (energy := self.meter.end()) is not None:
                self._publish("remote_gpu_energy", energy, ())

    def _forward_input(self, allow_stdin: bool = False) -> None:
        super()._forward_input(allow_stdin)
        about = (self.get_parent("shell").get("metadata") or {}).get("remote_gpu")
        if isinstance(about, dict) and "job" in about:
            builtins.input = getpass.getpass = _nobody_to_ask  # the plain kernel puts them back

    def _publish(self, msg_type: str, content: dict[str, Any], buffers: Sequence[Any]) -> None:
        """Send one iopub message that belongs to the running cell."""
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        topic = self._topic(msg_type)
        self.session.send(self.iopub_socket, msg_type, content, parent=self.get_parent(), ident=topic, buffers=list(buffers))

    def _failed(self, ename: str, evalue: str) -> dict[str, Any]:
        """The reply of a cell that came to nothing, which is published as well: a reply may find nobody."""
        text = f"\x1b[31m{ename}\x1b[39m: {evalue}"
        error = {"ename": ename, "evalue": evalue, "traceback": [text]}
        self._publish("error", error, ())
        return {"status": "error", **error, "execution_count": self.execution_count, "user_expressions": {}, "payload": []}

    @contextlib.contextmanager
    def _turn(self, parent: dict[str, Any]) -> Iterator[bool]:
        """Whether a request may begin; True beside the turns."""
        if parent["header"].get("subshell_id"):
            yield True
            return
        begins = self.turns.begin(str(parent["header"]["msg_id"]))
        try:
            yield begins
        finally:
            if begins:
                self.turns.end()

    @contextlib.contextmanager
    def _numbered(self, parent: dict[str, Any]) -> Iterator[None]:
        asked = (parent.get("metadata") or {}).get("remote_gpu")
        count = asked.get("execution_count") if isinstance(asked, dict) else None
        shell = self.shell
        if not isinstance(count, int) or shell is None or parent["header"].get("subshell_id"):
            yield
            return
        before = shell.execution_count
        shell.execution_count = count
        for inputs in (shell.history_manager.input_hist_parsed, shell.history_manager.input_hist_raw):
            inputs.extend([""] * (count - len(inputs)))  # cells that ran elsewhere: In[n] is the notebook's cell n
        try:
            yield
        finally:
            if shell.execution_count == count:
                shell.execution_count = before


class RemoteKernelApp(IPKernelApp):
    """Makes the kernel and its sockets; `ready` is told when they are bound."""

    name = "ipython-kernel"
    kernel_class = Type(RemoteKernel, klass="ipykernel.kernelbase.Kernel")  # type: ignore[assignment]
    side_socket = Unicode()
    ready: int = -1

    def parse_command_line(self, argv: Any = None) -> None:
        """Nothing: there is no command line, and making its parser takes a third of the time to start."""

    def init_poller(self) -> None:
        """Nothing: the life pipe ends this process group with its supervisor, at once and without a thread."""

    def init_sockets(self) -> None:
        """Bind them; forked children of the kernel reach iopub through a private socket."""
        PrivateIOPubThread.path = self.side_socket
        ipykernel.kernelapp.IOPubThread = PrivateIOPubThread  # type: ignore[misc]
        super().init_sockets()

    def init_iopub(self, context: Any) -> None:
        """Bind iopub, with no limit on what waits to be sent: at its default of 1,000 it would drop messages."""
        context.setsockopt(zmq.SNDHWM, 0)
        super().init_iopub(context)

    def log_connection_info(self) -> None:
        """Keep the ports and tell the supervisor that they are bound; there is no terminal to tell."""
        names = ("shell", "iopub", "stdin", "hb", "control")
        self._ports = {name: getattr(self, f"{name}_port") for name in names}
        os.write(self.ready, b"b")

    def write_connection_file(self, **kwargs: Any) -> None:
        """Nothing: the supervisor wrote it."""

    def init_io(self) -> None:
        """Redirect the standard streams."""
        self.outstream_class = f"{RemoteOutStream.__module__}.{RemoteOutStream.__qualname__}"
        super().init_io()


def _tie_life(descriptor: int) -> None:
    """Let the system kill this process group at the moment when the supervisor's end of the pipe closes.

    The supervisor closes it by dying, however it dies. Where the system cannot do that, a thread does.
    """
    if hasattr(fcntl, "F_SETSIG"):
        fcntl.fcntl(descriptor, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | os.O_ASYNC)
        return

    def watch() -> None:
        os.read(descriptor, 1)
        os.killpg(os.getpgrp(), signal.SIGKILL)

    threading.Thread(target=watch, name="Life", daemon=True).start()


def _clean_modules(bundle: str) -> None:
    """Leave this package importable, but last: user code must not see the node's half instead of an installed package."""
    for name in [name for name in sys.modules if name == "remote_gpu" or name.startswith("remote_gpu.")]:
        del sys.modules[name]
    sys.path[:] = ["", *(entry for entry in sys.path if entry not in ("", bundle)), bundle]


def _flush_streams() -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()


def _prepare(connection_file: Path, incarnation: int, life: int) -> RemoteKernelApp:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # until a cell runs, as in ipykernel
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGCHLD, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN if number == signal.SIGPIPE else signal.SIG_DFL)
    _tie_life(life)
    side = str(connection_file.parent / f"k{incarnation}-6")
    config = Config()
    config.HistoryManager.hist_file = ":memory:"  # nothing typed rests on a disk; no lock on a shared home
    config.HistoryManager.db_cache_size = 1_000_000  # nor written to memory twice: `In` and %history read lists
    return RemoteKernelApp.instance(config=config, connection_file=str(connection_file), side_socket=side, parent_handle=os.getppid())


def become_kernel(connection_file: Path, environment: dict[str, str], bundle: str, incarnation: int, ready: int, life: int) -> NoReturn:
    """Be the kernel described by `connection_file`, in the child of a fork; never returns.

    Writes ``b`` to `ready` when the sockets are bound and ``r`` when it serves requests. `life` is the reading end of a
    pipe that only the supervisor can write to: its closing kills this process and its children.
    """
    code = _EXIT_FAILED
    try:
        signal.set_wakeup_fd(-1)
        os.setpgid(0, 0)
        keep_only(ready, life)
        replace_environment(environment)
        make_files_as_the_user_wants()
        sys.argv[:] = [str(Path(ipykernel.__file__).parents[1] / "ipykernel_launcher.py"), "-f", str(connection_file)]  # a plain kernel's
        app = _prepare(connection_file, incarnation, life)
        app.ready = ready
        app.initialize([])
        atexit.register(_flush_streams)  # runs after what the user registers, before the sockets close
        _clean_modules(bundle)
        os.write(ready, b"r")
        os.close(ready)
        app.start()
        code = 0
    except SystemExit as request:
        code = request.code if isinstance(request.code, int) else int(request.code is not None)
    except BaseException:  # noqa: BLE001  the last frame of this process: what went wrong belongs into the session's log
        traceback.print_exc(file=sys.__stderr__)
    finally:
        with contextlib.suppress(Exception):
            atexit._run_exitfuncs()  # noqa: SLF001  a forked child has no other way to end in order without its parent's frames
        os._exit(code)
