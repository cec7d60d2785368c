"""Cells that do not block: sends them, and keeps what they need from the thread of the cells.

A remote kernel runs its requests in the order in which they came, so names are agreed on when a background cell is sent: a
later cell neither waits for its values here nor sends older ones over them. The values themselves come back when the job is
collected.
"""

from __future__ import annotations

import ast
import contextlib
import keyword
import queue
import sys
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from remote_gpu.arguments import CellLine, LineError
from remote_gpu.attached import Attached
from remote_gpu.cell import Cells
from remote_gpu.crossings import Crossing
from remote_gpu.errors import LinkProblem, RemoteGpuError, SessionEnded, UnknownSession
from remote_gpu.execution import Outcome, Result
from remote_gpu.job_output import JobOutput
from remote_gpu.jobs import Job
from remote_gpu.output import Output
from remote_gpu.running import Event, GatewayGone, Running
from remote_gpu.sessions import Sessions
from remote_gpu.sync import Sync

__all__ = ["Background"]

_ATTEMPTS = 4
_KEPT = 200  # ended jobs that `%remote_gpu cancel` still knows by their number
_TRY_AGAIN = 5.0  # seconds between two tries to find a gateway
_ANSWER_TIME = 30.0
_RESULT = "_"


class _Inbox(queue.SimpleQueue[Event]):
    """Where a job's events go: nobody waits for them, so they are dealt with as they come."""

    def __init__(self, take: Callable[[Event], None]) -> None:
        super().__init__()
        self._take = take

    def put(self, item: Event, block: bool = True, timeout: float | None = None) -> None:  # noqa: ARG002  as the base has it
        self._take(item)


@dataclass(slots=True, eq=False)
class _Sent:
    """How a job was sent, to send it again."""

    code: str
    body: str
    line: CellLine
    output: JobOutput
    crossing: Crossing | None = None
    noted: dict[str, object] = field(default_factory=dict)
    """The fingerprints of the names that it brings and binds, as they were agreed on when it was sent."""
    refused: dict[str, str] = field(default_factory=dict)
    attempts: int = 0


class Background:
    """The background cells of one shell. `crossed` binds the names of an execution that is over."""

    def __init__(self, shell: Any, sessions: Sessions, cells: Cells, sync: Sync, output: Output) -> None:
        self._shell = shell
        self._sessions = sessions
        self._cells = cells
        self._sync = sync
        self._output = output
        kernel = getattr(shell, "kernel", None)
        self.in_notebook = kernel is not None
        self.loop: Any = getattr(getattr(kernel, "io_loop", None), "asyncio_loop", None)
        self._jobs: dict[int, Job] = {}
        self._sent: dict[int, _Sent] = {}
        self._count = 0
        self._todo: deque[Callable[[], None]] = deque()
        self._later: list[Callable[[], None]] = []
        self._news = threading.Condition()
        shell.events.register("pre_run_cell", self._before_cell)

    def close(self) -> None:
        """Nothing is collected any more; the cells run on."""
        with contextlib.suppress(ValueError):
            self._shell.events.unregister("pre_run_cell", self._before_cell)

    # the thread of the cells

    def start(self, attached: Attached, code: str, body: str, line: CellLine) -> Job:
        """Send a cell and return at once. Raises `LineError` for a name that cannot be a variable's."""
        if line.name and (not line.name.isidentifier() or keyword.iskeyword(line.name)):
            raise LineError(f"%%remote_gpu: --name is the variable that the job will be in, and {line.name!r} cannot be one.")
        first = next((text.strip() for text in body.splitlines() if text.strip() and not text.strip().startswith("#")), "")
        output = JobOutput(self._output.sink(attached.info.id), numbered=self.in_notebook)
        job = Job(self._count + 1, line.name, first[:80], attached, output, self)
        self._sent[job.number] = _Sent(code, body, line, output)
        self._send(job)
        self._count = job.number
        self._jobs[job.number] = job
        if line.name:
            self._shell.user_ns[line.name] = job
        self._forget_old()
        return job

    def find(self, word: str) -> Job | None:
        """The job of that number, or the latest of that name."""
        if word.isdecimal():
            return self._jobs.get(int(word))
        return next((job for job in reversed(self._jobs.values()) if job.name == word), None)

    def of(self, msg_id: str) -> Job | None:
        """The job that this request is."""
        return next((job for job in self._jobs.values() if job.running is not None and job.running.msg_id == msg_id), None)

    def cancel(self, job: Job) -> str:
        """Cancel one; returns what it was. Raises `LinkProblem` when its session does not answer."""
        self._take_up(job.attached)
        if job.over or job.running is None:
            return "over"
        asked = {"ask": "cancel", "id": job.running.msg_id}
        said = job.attached.connection.request("remote_gpu_request", asked, timeout=_ANSWER_TIME, control=True)
        if said is None:
            raise LinkProblem(f"{job} may not be cancelled: session {job.attached.info.name!r} does not answer.", hint="Try again.")
        return str(said.get("was", "over"))

    def before(self, job: Job) -> int | None:
        """How many cells run and wait there before it; None when nobody can be asked."""
        if job.running is None or not self._sessions.lives(job.attached):
            return None
        try:
            ids = [str(cell["id"]) for cell in self._sessions.gateway.queue(job.attached.info.id)]
        except RemoteGpuError:
            return None
        return ids.index(job.running.msg_id) if job.running.msg_id in ids else len(ids)  # not there yet: behind all

    def serve(self, job: Job, limit: float | None) -> None:
        """Do what waits for this thread; then wait for the job's end or for more to do, at most `limit` seconds."""
        self._work()
        most = _TRY_AGAIN if self._later else None
        with self._news:
            self._news.wait_for(lambda: job.over or self._todo, min((each for each in (limit, most) if each is not None), default=None))
        self._try_again()
        self._work()

    def collect(self, last: Job) -> None:
        """Bring back what `last` bound, and before it what ended jobs before it did: a later value replaces an earlier one."""
        self._collect_ended(lambda job: job.number < last.number and job.attached is last.attached)
        last.collected()

    def _before_cell(self, *_: object) -> None:
        self._try_again()
        self._work()
        self._collect_ended(lambda _: True)

    def _collect_ended(self, wanted: Callable[[Job], bool]) -> None:
        for job in tuple(self._jobs.values()):
            if job.over and job.collect is not None and wanted(job):
                self._guarded(job.collected, f"What {job} bound did not come back")

    def _work(self) -> None:
        while self._todo:
            self._guarded(self._todo.popleft(), "A background cell")

    @staticmethod
    def _guarded(work: Callable[[], None], what: str) -> None:
        try:
            work()
        except RemoteGpuError as error:
            sys.stderr.write(f"{what}: {error}\n")

    def _try_again(self) -> None:
        again, self._later = self._later, []
        self._todo.extend(again)

    def _send(self, job: Job) -> None:
        sent = self._sent[job.number]
        sent.attempts += 1
        attached = job.attached
        crossing = sent.crossing = self._sync.prepare(attached, sent.body, sent.line, without=sent.refused)
        if self._has_result(sent.body):
            self._ask_for_result(crossing)
        job.collect = lambda: self._collect(job)
        events = _Inbox(job.take)
        running = self._cells.started(attached, sent.code, crossing, sink=sent.output, stdin=False, job=job.label, events=events)
        job.running = running
        attached.background.append(running)
        if job.over:  # it was quicker than this thread
            attached.background.remove(running)
        self._agree(attached, sent, crossing)

    def _agree(self, attached: Attached, sent: _Sent, crossing: Crossing) -> None:
        """From now on, requests find there what this one brings and binds."""
        names = crossing.names
        self._sync.accepted(crossing)
        bound = {*names.binds, *names.changes, *names.deletes}
        self._sync.agree(attached, crossing.known, bound)
        sent.noted = {name: crossing.known.keys.get(name) for name in (*crossing.sent, *bound)}

    def _collect(self, job: Job) -> None:
        """Bind what came back. A name that was agreed on anew since the job was sent is open: it is sent again when it is read."""
        sent, running = self._sent.pop(job.number), job.running
        crossing = sent.crossing
        if running is None or crossing is None:
            return
        keys, good = crossing.known.keys, running.outcome is not None and running.outcome.result is Result.OK
        unsure = [name for name, key in sent.noted.items() if not good or keys.get(name) != key]
        if running.execution.values is not None:
            namespace, own = self._sync.namespace, self._sync.namespace.get(_RESULT)
            summary = self._sync.finish(job.attached, crossing, running)
            if _RESULT in summary.back or _RESULT in summary.handles:
                job.value = namespace.pop(_RESULT, None)
                keys.pop(_RESULT, None)
                namespace[_RESULT] = own
                summary.handles.pop(_RESULT, None)
                summary.back[:] = [name for name in summary.back if name != _RESULT]
            if summary:
                running.facts = {**running.facts, "names": summary.json()}
                job.attached.connection.pump.call(lambda: running.sink.record(running, final=True))
        for name in unsure:
            keys.pop(name, None)

    def _has_result(self, body: str) -> bool:
        """Whether the cell ends with an expression whose value is shown."""
        try:
            last = ast.parse(self._shell.input_transformer_manager.transform_cell(body)).body[-1:]
        except SyntaxError:
            return False
        return bool(last) and isinstance(last[0], ast.Expr) and not body.rstrip().endswith(";")

    @staticmethod
    def _ask_for_result(crossing: Crossing) -> None:
        take = crossing.about.get("take")
        if take is not None:
            take["names"].append(_RESULT)
            if take.get("only") is not None:
                take["only"] = [*take["only"], _RESULT]

    def _take_up(self, attached: Attached) -> None:
        """Reach the session of background cells again, whose gateway is gone; unless somebody was quicker."""
        if not attached.unfinished() or self._sessions.lives(attached):
            return
        try:
            self._sessions.reconnect(attached)
        except (SessionEnded, UnknownSession):
            self._sessions.forget(attached.info.id)
        except RemoteGpuError:
            self._later.append(lambda: self._take_up(attached))
            if self.loop is not None and self.in_notebook:
                self.loop.call_later(_TRY_AGAIN, self._after_a_while)

    def _after_a_while(self) -> None:
        self._try_again()
        self._work()

    def _again(self, job: Job, outcome: Outcome) -> None:
        """The kernel refused some of the names: without them, or with everything if it is another kernel."""
        sent = self._sent[job.number]
        reasons = self._sync.refused(job.attached, outcome.evalue)
        if sent.crossing is not None:
            for name in sent.noted:
                sent.crossing.known.keys.pop(name, None)
        if reasons is None:
            job.end(outcome)
            return
        sent.refused |= reasons
        self._send(job)

    def _never_arrived(self, job: Job, running: Running) -> None:
        """Its request was lost with a gateway."""
        if job.stopped:
            job.end(Outcome(Result.ERROR, "Cancelled", "The cell was cancelled before it began."))
        elif running.execution.missed or running.send is None:
            job.end(Outcome(Result.DIED, evalue="the connection broke as it was sent, and its output is gone", reason="cell_lost"))
        else:
            running.execution.claimed = False
            running.send(job.attached.connection)

    # the pump's thread

    def later(self, job: Job, event: Event) -> None:
        """An event that this thread cannot deal with: a gateway to be found, a request to be sent again."""
        running = job.running
        if isinstance(event, GatewayGone):
            self._ask_for(lambda: self._take_up(job.attached))
        elif running is not None:
            self._ask_for(lambda: self._never_arrived(job, running))

    def sent_again(self, job: Job, outcome: Outcome) -> bool:
        """Whether the job did not begin, for its names were refused, and is sent once more."""
        sent = self._sent.get(job.number)
        if outcome.ename != "NamesRefused" or sent is None or sent.attempts >= _ATTEMPTS:
            return False
        self._ask_for(lambda: self._again(job, outcome))
        return True

    def ended(self, job: Job) -> None:
        """A job is over."""
        if job.running in job.attached.background:
            job.attached.background.remove(job.running)
        with self._news:
            self._news.notify_all()

    def _ask_for(self, work: Callable[[], None]) -> None:
        self._todo.append(work)
        with self._news:
            self._news.notify_all()
        if self.loop is not None:
            with contextlib.suppress(RuntimeError):  # closed
                self.loop.call_soon_threadsafe(self._work)

    def _forget_old(self) -> None:
        for number in [number for number, job in self._jobs.items() if job.over and job.collect is None][:-_KEPT]:
            del self._jobs[number]
