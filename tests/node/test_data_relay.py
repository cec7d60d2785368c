"""The verbs ``data-relay SCRATCH COMMAND`` and ``data SESSION FOLDER``: what is large goes through files, and nothing but those files is touched."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from tests.fakes.data import SESSION
from tests.fakes.relay import COMMAND, RelayNode, relay_node

from remote_gpu.errors import BadFrame, LinkProblem
from remote_gpu.node import blobs
from remote_gpu.transfer.channel import Channel
from remote_gpu.transfer.files import Files
from remote_gpu.transfer.frames import Message, Op, Reader, StreamEnded, head_of, preamble, write_all

MB = 1 << 20


@pytest.fixture
def node(places):
    with relay_node(places.base) as made:
        yield made


def put(node: RelayNode, data: bytes) -> bytes:
    """What the node has of `data` in the end."""
    (address,) = node.transfers.put_missing([memoryview(data)])
    return bytes(blobs.mapped(address, len(data)))


def ended(node: RelayNode) -> int:
    """The status of the newest relay, whose stream is closed."""
    node.transfers.close()
    return node.processes[-1].wait(20)


def test_what_is_large_goes_through_files_in_both_directions_and_none_is_left(node):
    data = os.urandom(30 * MB)
    assert put(node, data) == data
    node.serve(lambda _: ({}, b"head", [memoryview(data)]))
    fetched = node.transfers.fetch("x")
    assert (bytes(fetched.head), bytes(fetched.buffers[0])) == (b"head", data)
    (folder,) = node.folders
    assert folder.stat().st_mode & 0o777 == node.own.stat().st_mode & 0o777 == 0o700
    assert {path.name for path in folder.iterdir()} == {"l0", "n0"}
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert ended(node) == 0
    assert node.folders == []
    # The socket pair may run dry for a moment, and what has gathered is then not worth a file.
    assert node.counted["in"] < len(data) / 4
    assert node.counted["out"] < len(data) / 4
    assert node.errors.read_text() == ""


def test_what_is_small_makes_no_file(node):
    for number in range(50):
        assert put(node, bytes([number]) * 5000)
    (folder,) = node.folders
    before = folder.stat().st_mtime_ns
    put(node, os.urandom(50_000))
    assert folder.stat().st_mtime_ns == before


def test_files_and_folders_go_through_a_relay(node, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    content = {"empty": b"", "large": os.urandom(9 * MB), **{f"n{number}": os.urandom(2000) for number in range(300)}}
    for name, data in content.items():
        (source / name).write_bytes(data)
    files = Files(node.transfers)
    assert files.put(source, "there").files == len(content)
    assert files.get("there", tmp_path / "back").files == len(content)
    assert {path.name: path.read_bytes() for path in (tmp_path / "back").iterdir()} == content


def test_no_more_than_a_few_pieces_wait_when_nobody_reads(node):
    size = 200 * MB
    node.serve(lambda _: ({}, b"", [memoryview(bytes(size))]))
    channel = Channel(node.connect())
    channel.ask(Op.FETCH, {"ticket": "t", "wanted": "x", "offset": 0, "generation": None}, Op.PARCEL)
    (folder,) = node.folders

    def used() -> int:
        return sum(path.stat().st_size for path in folder.iterdir())

    seen, still = -1, 0
    deadline = time.monotonic() + 30
    while still < 20 and time.monotonic() < deadline:
        still, seen = (still + 1, seen) if used() == seen else (0, used())
        time.sleep(0.02)
    assert 8 * MB < seen <= 4 * 8 * MB + 1024
    channel.close()
    assert node.processes[-1].wait(20) == 0
    assert node.folders == []


@pytest.mark.parametrize("end", ["relay", "node"])
def test_an_end_that_is_killed_is_begun_again_and_its_folder_goes(node, end):
    data = os.urandom(40 * MB)
    put(node, b"a")
    first = node.folders
    victim = node.processes[0].pid if end == "relay" else node.counted["pid"]

    def kill() -> None:
        deadline = time.monotonic() + 30
        while node.transfers._moves < 8 and time.monotonic() < deadline:
            time.sleep(0.001)
        os.kill(victim, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    assert put(node, data) == data
    killer.join()
    assert len(node.processes) >= 2
    assert node.processes[0].wait(10) != 0
    ended(node)
    deadline = time.monotonic() + 10
    while node.folders and time.monotonic() < deadline:
        time.sleep(0.01)
    assert node.folders == []
    assert first


def test_a_fetch_that_is_cut_goes_on_where_it_was(node):
    data = os.urandom(40 * MB)
    node.serve(lambda _: ({}, b"", [memoryview(data)]))
    assert put(node, b"a")

    def cut(done: int, total: int) -> None:
        if done > total // 2 and len(node.processes) == 1:
            node.cut()

    assert bytes(node.transfers.fetch("x", cut).buffers[0]) == data
    assert len(node.processes) == 2


def test_a_relay_that_is_told_to_end_leaves_nothing(node):
    assert put(node, b"a" * 1000)
    assert node.folders
    node.processes[0].terminate()
    assert node.processes[0].wait(20) == 143
    assert node.folders == []


@pytest.mark.parametrize(("login", "there"), [(1024, 0), (0, 1024), (1, 0), (0, 1)])
def test_a_folder_that_takes_no_more_is_done_without_and_it_is_said_once(places, login, there):
    """A file that may not grow any more is to a writer what a full disk is; the blob itself needs room on the node."""
    data = os.urandom(30 * MB)
    with relay_node(places.base, login, there) as node:
        node.serve(lambda _: ({}, b"", [memoryview(data)]))
        channel = Channel(node.connect())
        notes = []
        if login:
            meta = {"blob": "0" * 32, "size": len(data), "offset": 0}
            channel.send(Op.PUT, meta, data)
            channel.send(Op.SYNC, {})
            notes += told(channel, Op.DONE)
            assert bytes(blobs.mapped("0" * 32, len(data))) == data
        else:
            channel.send(Op.FETCH, {"ticket": "t", "wanted": "x", "offset": 0, "generation": None})
            message = channel.receive(Op.PARCEL)
            came = bytearray(message.size)
            channel.fill(memoryview(came))
            assert bytes(came) == data
        for _ in range(2):
            channel.send(Op.LIST, {"path": ""})
            notes += told(channel, Op.LISTED)
        channel.close()
        assert len(notes) == 1
        assert notes[0].startswith(f"The scratch folder {node.scratch} takes no more from {os.uname().nodename}: File too large.")
        assert node.processes[-1].wait(20) == 0
        assert node.folders == []


def told(channel: Channel, op: Op) -> list[str]:
    """The notes before the next answer."""
    notes = []
    while (message := channel._reader.message()).op != op:
        assert message.op == Op.WAIT, message
        notes.append(message.meta["note"])
    return notes


# what may be in the folder


_HOSTILE = """
import os, sys
sys.path[:0] = [sys.argv[1]]
from remote_gpu.transfer.frames import Op, Reader, head_of, preamble, write_all
folder, secret, what = sys.argv[4], sys.argv[2], sys.argv[3]
write_all(1, preamble())
reader = Reader(0)
reader.greet()
mark = reader.message().meta["size"]
os.chdir(folder)
with open("n0", "wb") as file:
    file.write(open("l0", "rb").read())
write_all(1, head_of(Op.PIECE, {"number": 0, "size": mark}))
size = os.path.getsize(secret)
exec(what)
while os.read(0, 65536):
    pass
"""

PLANTED = {
    "a link": 'os.symlink(secret, "n1"); write_all(1, head_of(Op.PIECE, {"number": 1, "size": size}))',
    "a hard link": 'os.link(secret, "n1"); write_all(1, head_of(Op.PIECE, {"number": 1, "size": size}))',
    "a pipe": 'os.mkfifo("n1"); write_all(1, head_of(Op.PIECE, {"number": 1, "size": size}))',
    "a folder": 'os.mkdir("n1"); write_all(1, head_of(Op.PIECE, {"number": 1, "size": size}))',
    "a path": 'write_all(1, head_of(Op.PIECE, {"number": "../../" + secret, "size": size}))',
    "nothing": 'write_all(1, head_of(Op.PIECE, {"number": 1, "size": size}))',
    "another size": 'open("n1", "wb").write(bytes(size - 1)); write_all(1, head_of(Op.PIECE, {"number": 1, "size": size}))',
    "too much": 'write_all(1, head_of(Op.PIECE, {"number": 1, "size": 1 << 40}))',
    "no number": 'write_all(1, head_of(Op.PIECE, {"number": None, "size": size}))',
    "another message": "write_all(1, head_of(Op.HELLO, {}, size) + open(secret, 'rb').read())",
    "too many": 'write_all(1, b"".join(head_of(Op.BYTES, {}, 1) + b"x" for _ in range(100000)))',
    "taken for nothing": 'write_all(1, head_of(Op.TAKEN, {"count": 1}))',
    "taken less than nothing": 'write_all(1, head_of(Op.TAKEN, {"count": -1}))',
    "taken, no number": "write_all(1, head_of(Op.TAKEN))",
    "large and inline": "write_all(1, head_of(Op.BYTES, {}, 1 << 40))",
}


@pytest.mark.parametrize("what", PLANTED)
def test_a_node_cannot_make_the_login_read_another_file(places, what):
    secret = places.base / "secret"
    secret.write_bytes(b"secret" * 100_000)
    scratch = places.base / "scratch"
    scratch.mkdir()
    step = [sys.executable, "-c", _HOSTILE, COMMAND[-1], str(secret), PLANTED[what]]
    relay = subprocess.Popen(
        [*COMMAND, "data-relay", str(scratch), *step], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    said = b""
    if what == "too many":  # its reader takes none of it
        assert relay.wait(20) == 4
    with relay:
        said = relay.stdout.read()
        errors = relay.stderr.read().decode()
    assert b"secret" not in said
    assert relay.returncode == 4
    assert "The other end of a relay" in errors or str(scratch) in errors
    assert secret.read_bytes() == b"secret" * 100_000
    own = scratch / f".jupyter-remote-gpu-{os.getuid()}"
    assert [path.name for folder in own.iterdir() for path in folder.iterdir()] == (["n1"] if what == "a folder" else [])


def test_a_node_that_removes_or_replaces_the_folder_gains_nothing(places):
    target = places.base / "target"
    target.mkdir()
    (target / "l1").write_bytes(b"mine")
    scratch = places.base / "scratch"
    scratch.mkdir()
    what = f"os.rename(folder, folder + '.old'); os.symlink({str(target)!r}, folder); write_all(1, head_of(Op.BYTES, {{}}, 1) + b'x'); os.read(0, 16)"
    step = [sys.executable, "-c", _HOSTILE.replace("while os.read", "while False and os.read"), COMMAND[-1], "/dev/null", what]
    with subprocess.Popen([*COMMAND, "data-relay", str(scratch), *step], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as relay:
        assert relay.stdout.read(1) == b"x"
        with contextlib.suppress(BrokenPipeError):  # it may have noticed, and left, by then
            os.write(relay.stdin.fileno(), os.urandom(MB))
        assert relay.wait(20) == 0
    assert not list(target.parent.glob("scratch/*/*.old/*"))
    assert {path.name: path.read_bytes() for path in target.iterdir()} == {"l1": b"mine"}


@pytest.mark.parametrize("what", ["a link", "open to others", "a file"])
def test_a_folder_that_is_not_private_is_not_used(places, what):
    scratch, other = places.base / "scratch", places.base / "other"
    scratch.mkdir()
    other.mkdir(mode=0o700)
    own = scratch / f".jupyter-remote-gpu-{os.getuid()}"
    {"a link": lambda: own.symlink_to(other), "open to others": lambda: (own.mkdir(), own.chmod(0o755)), "a file": own.touch}[what]()
    done = subprocess.run([*COMMAND, "data-relay", str(scratch), "cat"], input=b"", capture_output=True, timeout=20)
    assert (done.returncode, done.stdout) == (4, b"")
    assert b"scratch folder" in done.stderr or b"not private" in done.stderr
    assert not list(other.iterdir())


class Login:
    """The login's end played by hand against the node's."""

    def __init__(self, base: Path, mark: bytes = b"mark") -> None:
        self.folder = base / "scratch" / "own" / "0123456789abcdef"
        self.folder.mkdir(parents=True, mode=0o700)
        (self.folder / "l0").write_bytes(mark)
        self.process = subprocess.Popen(
            [*COMMAND, "data", SESSION, str(self.folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        self.reader = Reader(self.process.stdout.fileno())
        self.send(preamble())
        self.say(Op.PIECE, {"number": 0, "size": len(mark)})
        self.reader.greet()

    def send(self, data: bytes) -> None:
        write_all(self.process.stdin.fileno(), data)

    def say(self, op: Op, meta: dict | None = None, size: int = 0) -> None:
        self.send(head_of(op, meta, size))

    def heard(self) -> Message | None:
        return self.reader.message()

    def close(self) -> int:
        self.process.stdin.close()
        status = self.process.wait(20)
        self.process.stdout.close()
        return status


@pytest.mark.parametrize("what", ["a link", "a hard link", "nothing", "another size"])
def test_a_login_cannot_make_the_node_read_another_file(node, what):
    secret = node.scratch.parent / "secret"
    secret.write_bytes(b"secret" * 100_000)
    size = secret.stat().st_size
    login = Login(node.scratch.parent / "hostile")
    assert login.heard().op == Op.PIECE
    plant = login.folder / "l1"
    actions = {
        "a link": lambda: plant.symlink_to(secret),
        "a hard link": lambda: os.link(secret, plant),
        "another size": lambda: plant.write_bytes(b"x"),
    }
    actions.get(what, lambda: None)()
    login.say(Op.PIECE, {"number": 1, "size": size})
    said = b""
    while (message := login.heard()) is not None:
        said += login.reader.exactly(message.size)
    assert b"secret" not in said
    login.close()


def test_a_folder_that_the_node_does_not_see_is_named(node):
    login = Login(node.scratch.parent / "elsewhere")
    login.close()
    command = [*COMMAND, "data", SESSION, "/no/such/scratch/own/0123456789abcdef"]
    data = preamble() + head_of(Op.PIECE, {"number": 0, "size": 4})
    done = subprocess.run(command, input=data, capture_output=True, timeout=20)
    assert done.returncode == 4
    assert b"The scratch folder /no/such/scratch of the login node cannot be used on" in done.stdout
    assert b"No such file or directory" in done.stdout


def test_a_relay_whose_step_does_not_see_the_folder_says_so_and_nothing_else(node):
    elsewhere = ["bash", "-c", 'exec "${@:1:$#-1}" /no/such/scratch/own/0123456789abcdef', "bash", *COMMAND, "data", SESSION]
    done = subprocess.run([*COMMAND, "data-relay", str(node.scratch), *elsewhere], input=b"", capture_output=True, timeout=20)
    assert (done.returncode, done.stdout) == (4, b"")
    assert "The scratch folder /no/such/scratch of the login node cannot be used on" in done.stderr.decode()
    assert node.folders == []


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (["false"], "ended before it began"),
        (["/no/such/srun"], "cannot be run"),
        (["cat"], "is no data stream|ended|relay|not the same|plain"),
    ],
)
def test_a_step_that_does_not_begin_is_told_on_stderr_alone(node, step, said):
    import re

    done = subprocess.run([*COMMAND, "data-relay", str(node.scratch), *step], input=b"", capture_output=True, timeout=30)
    assert (done.returncode, done.stdout) == (4, b"")
    assert re.search(said, done.stderr.decode()), done.stderr
    assert node.folders == []


@pytest.mark.parametrize(
    ("scratch", "said"), [("relative", "no absolute path"), ("$NO_SUCH_VARIABLE/x", "no absolute path"), ("/no/such", "No such file")]
)
def test_a_scratch_folder_that_cannot_be_used_is_told_in_words(scratch, said):
    done = subprocess.run([*COMMAND, "data-relay", scratch, "cat"], input=b"", capture_output=True, timeout=20)
    assert (done.returncode, done.stdout) == (4, b"")
    assert said in done.stderr.decode()
    assert "`scratch`" in done.stderr.decode()


def test_a_variable_in_the_name_of_the_folder_is_the_logins_own(node):
    done = subprocess.run(
        [*COMMAND, "data-relay", "$WHERE/scratch", "false"],
        input=b"",
        capture_output=True,
        timeout=20,
        env={**os.environ, "WHERE": str(node.scratch.parent)},
    )
    assert "ended before it began" in done.stderr.decode()
    assert node.own.exists()


def leave(node: RelayNode, owner: str, age: float = 0.0, name: str = "00112233445566ff") -> Path:
    """A folder as a relay leaves it that was killed."""
    node.own.mkdir(mode=0o700, exist_ok=True)
    folder = node.own / name
    folder.mkdir(mode=0o700)
    (folder / "l0").write_text(owner)
    (folder / "l7").write_bytes(b"piece")
    os.utime(folder, (time.time() - age, time.time() - age))
    return folder


def test_the_next_relay_removes_what_a_killed_one_left_and_nothing_that_may_be_in_use(node):
    space = os.stat("/proc/self/ns/pid").st_ino
    here = f"{os.uname().nodename}/{space}"
    dead = leave(node, f"{here} 4194303 1 aa", name="00000000000000d1")
    old = leave(node, "other/1 1 1 aa", age=3000, name="00000000000000d2")
    alive = leave(node, f"{here} {os.getpid()} {_started()} aa", name="00000000000000a1")
    elsewhere = leave(node, "other/1 1 1 aa", age=60, name="00000000000000a2")
    strange = node.own / "notes"
    strange.mkdir()
    link = node.own / "00000000000000d3"
    link.symlink_to(node.cwd)
    assert put(node, b"a")
    assert not dead.exists()
    assert not old.exists()
    assert alive.exists()
    assert elsewhere.exists()
    assert strange.exists()
    assert link.is_symlink()
    assert node.cwd.exists()


def _started() -> str:
    from remote_gpu.node.spawn import start_time

    return f"{start_time(os.getpid()):.0f}"


# measuring


def test_an_echo_brings_as_many_bytes_as_it_asks_for(node):
    channel = Channel(node.connect())
    for up, down in ((0, 0), (3 * MB, 0), (0, 3 * MB), (5, 7)):
        channel.send(Op.ECHO, {"size": down}, bytes(up))
        message = channel.receive(Op.ECHO)
        came = bytearray(message.size)
        channel.fill(memoryview(came))
        assert len(came) == down
        assert len(set(came)) > 100 or down < 100, "what repeats itself may be compressed on the way"
    channel.close()


@pytest.mark.parametrize("size", [-1, 1 << 40, "x"])
def test_an_echo_that_makes_no_sense_ends_the_stream(node, size):
    channel = Channel(node.connect())
    channel.send(Op.ECHO, {"size": size})
    with pytest.raises(BadFrame) as caught:
        channel.receive(Op.ECHO)
    assert not isinstance(caught.value, StreamEnded)
    assert isinstance(caught.value, LinkProblem)
    channel.close()
