"""Cells that do not block: sends them, and does for them what only the thread of the cells can do."""

from __future__ import annotations

import contextlib
import functools
import keyword
import queue
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from remote_gpu.arguments import CellLine, LineError
from remote_gpu.attached import Attached, facts_of
from remote_gpu.background.jobs import Job
from remote_gpu.background.names import JobNames
from remote_gpu.background.output import JobOutput
from remote_gpu.cell import Cells
from remote_gpu.cursors import JobsFile, orphaned_jobs
from remote_gpu.errors import LinkProblem, RemoteGpuError, SessionEnded, UnknownSession
from remote_gpu.execution import Execution, Outcome, Result
from remote_gpu.gateway import SessionInfo
from remote_gpu.output import Output
from remote_gpu.running import Event, GatewayGone, Running
from remote_gpu.sessions import Sessions
from remote_gpu.sync import Sync

__all__ = ["Background"]

_ATTEMPTS = 4
_KEPT = 200  # ended jobs that `%remote_gpu cancel` still knows by their number
_TRY_AGAIN = 5.0  # seconds between two tries to find a gateway
_ANSWER_TIME = 30.0


class _Inbox(queue.SimpleQueue[Event]):
    """Where a job's events go: nobody waits for them, so they are dealt with as they come."""

    def __init__(self, take: Callable[[Event], None]) -> None:
        super().__init__()
        self._take = take

    def put(self, item: Event, block: bool = True, timeout: float | None = None) -> None:  # noqa: ARG002  as the base has it
        self._take(item)


def _hand_over(running: Running, job: Job) -> None:
    """From now on `job` deals with the events of `running`; on the pump's thread, which is where they come from."""
    waiting, running.events = running.events, _Inbox(job.take)
    while not waiting.empty():
        job.take(waiting.get())


@dataclass(slots=True, eq=False)
class _Sent:
    """How a job was sent, to send it again."""

    code: str
    names: JobNames
    output: JobOutput
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
        self._labels: dict[str, str] = {}
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
        output = self._job_output(attached.info)
        job = Job(self._count + 1, line.name, first[:80], attached, output, self)
        self._sent[job.number] = _Sent(code, JobNames(self._sync, self._shell, attached, body, line), output)
        self._send(job)
        self._count = job.number
        self._jobs[job.number] = job
        self._note(attached)
        if line.name:
            self._shell.user_ns[line.name] = job
        self._forget_old()
        return job

    def orphans(self, info: SessionInfo, skip: str) -> tuple[Running, ...]:
        """The background cells of kernels that are no more, to be followed in the cell that runs now; `skip` is followed anyway."""
        found = {msg_id: label for msg_id, label in orphaned_jobs(info.id).items() if msg_id != skip}
        self._labels.update(found)
        return tuple(Running(Execution(msg_id, claimed=True), self._job_output(info), facts_of(info)) for msg_id in found)

    def adopt(self, attached: Attached, orphans: Sequence[Running]) -> None:
        """Make them jobs of this notebook's; what came of them meanwhile is dealt with now."""
        for running in orphans:
            label = self._labels.pop(running.msg_id).partition(" ")[2]
            self._count += 1
            job = self._jobs[self._count] = Job(self._count, label, "", attached, cast("JobOutput", running.sink), self)
            job.running = running
            attached.background.append(running)
            attached.connection.pump.call(functools.partial(_hand_over, running, job))
        self._note(attached)

    def _job_output(self, info: SessionInfo) -> JobOutput:
        return JobOutput(self._output.sink(info.id), numbered=self.in_notebook)

    def _note(self, attached: Attached) -> None:
        mine = [job for job in tuple(self._jobs.values()) if job.attached is attached and not job.over]
        unfinished = {job.running.msg_id: job.label for job in mine if job.running is not None}
        JobsFile(attached.info.id).write(unfinished)

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
        crossing = sent.names.prepare()
        job.collect = lambda: self._collect(job)
        events = _Inbox(job.take)
        running = self._cells.started(attached, sent.code, crossing, sink=sent.output, stdin=False, job=job.label, events=events)
        job.running = running
        attached.background.append(running)
        if job.over:  # it was quicker than this thread
            attached.background.remove(running)
        sent.names.sent()

    def _collect(self, job: Job) -> None:
        names = self._sent.pop(job.number).names
        if job.running is not None:
            names.collect(job.running)
            job.value = names.value

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
        if self._sent[job.number].names.refuse(outcome.evalue):
            self._send(job)
        else:
            job.end(outcome)

    def _never_arrived(self, job: Job, running: Running) -> None:
        """Its request was lost with a gateway."""
        if job.stopped:
            job.end(Outcome(Result.ERROR, "Cancelled", "The cell was cancelled before it began."))
        elif running.send is None:
            job.end(Outcome(Result.DIED, evalue="nothing is heard of it: it had ended before, or never arrived", reason="cell_lost"))
        elif running.execution.missed:
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
        self._note(job.attached)
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
