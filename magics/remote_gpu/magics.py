"""The magics `%%remote_gpu` and `%remote_gpu`, and how they hook into a shell."""

from __future__ import annotations

import asyncio
import atexit
import os
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

from remote_gpu.arguments import CELL_USAGE, CellLine, LineError, Place, parse_cell, parse_verb
from remote_gpu.completion import Completion
from remote_gpu.errors import RemoteGpuError, UsageProblem

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from remote_gpu.gateway import Gateway
__all__ = ["RemoteGpu", "load", "unload"]

_FOLLOWING = "--following"  # how a cell without a magic line is marked once `on` has turned it into one
_STAYS_HERE = re.compile(r"%%?remote_gpu|%(?:re|un)?load_ext +remote_gpu\b")
_LEAVES = frozenset({"exit", "quit", "exit()", "quit()"})
_ATTRIBUTE = "_remote_gpu"
_IDLE = 0.3  # seconds after loading from which on nobody is likely to wait for the kernel


class RemoteGpu:
    """What is loaded into one shell. The parts that need ZMQ are made at the first use, so that loading costs little."""

    def __init__(self, shell: Any, connect_gateway: Callable[[], Gateway] | None = None) -> None:
        self._shell = shell
        self._connect_gateway = connect_gateway
        self._following: Place | None = None
        self._parts: Any = None
        self._transform = shell.transform_cell
        self._show_traceback: Any = getattr(shell, "_showtraceback", None)
        self._process = os.getpid()
        self._completion = Completion(shell, lambda: self.parts.sessions, lambda: self._following)

    def load(self) -> None:
        """Hook into the shell."""
        manager = self._shell.magics_manager
        manager.register_function(self._cell_magic, "cell", "remote_gpu")
        manager.register_function(self._line_magic, "line", "remote_gpu")
        manager.register_function(self._local_magic, "cell", "local")
        self._shell.transform_cell = self._transformed
        self._shell._showtraceback = self._traceback_shown  # noqa: SLF001  no public hook is called for every error
        self._completion.load()
        atexit.register(self._exit)
        _when_idle("remote_gpu.parts")

    def unload(self) -> None:
        """Unhook; remote sessions keep running."""
        del self._shell.transform_cell
        del self._shell._showtraceback  # noqa: SLF001
        for kind, name in (("cell", "remote_gpu"), ("line", "remote_gpu"), ("cell", "local")):
            self._shell.magics_manager.magics[kind].pop(name, None)
        self._completion.unload()
        atexit.unregister(self._exit)
        self.close()

    def close(self) -> None:
        """Leave the remote sessions."""
        if self._parts is not None:
            self._parts.close()
            self._parts = None

    def _exit(self) -> None:
        if self._parts is not None and os.getpid() == self._process:  # not a forked child's exit
            self._parts.end_own()
            self.close()

    @property
    def parts(self) -> Any:
        """The parts that need ZMQ."""
        if self._parts is None:
            from remote_gpu.parts import Parts

            self._parts = Parts(self._shell, self._connect_gateway, self._follow)
        return self._parts

    def _follow(self, place: Place | None) -> None:
        self._following = place

    def _cell_magic(self, line: str, cell: str) -> Any:
        """Run this cell in a remote session; `%%remote_gpu --help` tells more."""
        if line == _FOLLOWING and self._following is not None:
            options, first = _placed(self._following), None
        else:
            options = _understood(parse_cell, line)
            if options.help:
                sys.stdout.write(CELL_USAGE + "\n")
                return None
            first = f"%%remote_gpu {line}".rstrip()
        return self._guarded(lambda: self.parts.run_cell(options, first, cell))

    def _line_magic(self, line: str) -> None:
        """Manage remote sessions; `%remote_gpu help` tells more."""
        verb = _understood(parse_verb, line)
        self._guarded(lambda: self.parts.verbs.run(verb))

    def _local_magic(self, line: str, cell: str) -> None:  # noqa: ARG002  a magic's signature
        """Run this cell here, also after `%remote_gpu on`."""
        self._shell.run_cell(cell)

    @staticmethod
    def _guarded(work: Callable[[], Any]) -> Any:
        try:
            return work()
        except LineError as error:
            raise UsageError(str(error)) from None
        except UsageProblem as error:
            raise UsageError(str(error)) from None
        except RemoteGpuError as error:
            if hasattr(error, "_render_traceback_"):
                raise
            from remote_gpu.failures import plain

            raise plain(error) from None

    def _transformed(self, raw_cell: str) -> str:
        """In place of the shell's `transform_cell`, which acts at execution only: `check_complete` must not see our magic."""
        start = raw_cell.lstrip()
        if start.startswith("%%local"):
            first, _, body = start.partition("\n")
            return str(self._transform(body if body.lstrip().startswith("%%") else f"# {first}\n{body}"))
        if self._following is None or not start or _STAYS_HERE.match(start) or start.strip() in _LEAVES or self._silent():
            return str(self._transform(raw_cell))
        return f"get_ipython().run_cell_magic('remote_gpu', {_FOLLOWING!r}, {raw_cell!r})\n"

    def _traceback_shown(self, etype: Any, evalue: Any, stb: Any) -> None:
        """In place of the shell's `_showtraceback`: a remote error that its cell has shown already is not shown again."""
        if getattr(evalue, "shown", False) is True and hasattr(evalue, "remote_traceback"):
            self._shell._last_traceback = stb  # noqa: SLF001  what the reply says
        else:
            self._show_traceback(etype, evalue, stb)

    def _silent(self) -> bool:
        """Whether the frontend, not the user, asks: such code is about the local kernel."""
        kernel = getattr(self._shell, "kernel", None)
        content = (kernel.get_parent() or {}).get("content") or {} if kernel is not None else {}
        return bool(content.get("silent"))


def _placed(place: Place) -> CellLine:
    return CellLine(place.session, place.cluster, place.request)


def _when_idle(module: str) -> None:
    """Import what the first remote cell needs while the kernel has nothing to do; where no event loop runs, that cell does it."""
    with suppress(RuntimeError):
        asyncio.get_running_loop().call_later(_IDLE, import_module, module)


def _understood(parse: Callable[[str], Any], line: str) -> Any:
    try:
        return parse(line)
    except LineError as error:
        raise UsageError(str(error)) from None


def load(shell: InteractiveShell, *, connect_gateway: Callable[[], Gateway] | None = None) -> None:
    """Register the magics in `shell`. `connect_gateway` makes the client of the gateway; by default, of the one found or started."""
    if getattr(shell, _ATTRIBUTE, None) is None:
        loaded = RemoteGpu(shell, connect_gateway)
        loaded.load()
        setattr(shell, _ATTRIBUTE, loaded)


def unload(shell: InteractiveShell) -> None:
    """Take the magics out of `shell` again."""
    loaded = getattr(shell, _ATTRIBUTE, None)
    if loaded is not None:
        loaded.unload()
        delattr(shell, _ATTRIBUTE)
