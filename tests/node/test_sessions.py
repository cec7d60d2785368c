"""A session from its start to its end, with a real ipykernel, through the frames that a gateway sends."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.node.client import Client, Stream, node, node_environment, session_environment, wait_for
from tests.node.conftest import Sessions

from jupyter_remote_gpu.clusters.bundle import Bundle
from remote_gpu.frames import Frame, Kind, Lane, data_frames, preamble


def processes_with(text: str) -> dict[int, str]:
    """Pids whose command line or environment at birth has `text`."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                everything = (entry / "cmdline").read_bytes() + b"\0" + (entry / "environ").read_bytes()
            except OSError:
                continue
            if text.encode() in everything:
                found[int(entry.name)] = everything.decode(errors="replace")
    return found


def exists(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def descendants_of(pid: int) -> set[int]:
    children: dict[int, set[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, set()).add(int(entry.name))
    found, waiting = {pid}, [pid]
    while waiting:
        new = children.get(waiting.pop(), set()) - found
        found |= new
        waiting += new
    return found


def test_a_cell_runs_and_its_output_and_reply_arrive(client: Client) -> None:
    cell = client.execute("print('hello'); import sys; print('oops', file=sys.stderr); 6 * 7")
    assert client.finish(cell)["status"] == "ok"
    assert (client.text(cell), client.text(cell, "stderr")) == ("hello\n", "oops\n")
    assert client.of(cell, "execute_result")[0].content["data"] == {"text/plain": "42"}
    assert client.reply(cell).identities == [b"client"]


def test_the_attach_command_carries_a_session_and_ends_with_its_stream(sessions: Sessions, session: dict[str, Any]) -> None:
    stream = sessions.command(session)
    client = Client(stream, "pumped01")
    cell = client.execute("print('x' * 3_000_000)")
    client.finish(cell)
    assert len(client.text(cell)) == 3_000_001
    stream.peer.close()
    assert stream.process is not None
    assert stream.process.wait(10) == 0


def test_attaching_to_no_session_says_so_and_exits_with_3(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "remote_gpu.node", "attach", "nosuch"],
        env=node_environment(folder),
        capture_output=True,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 3
    assert b"nosuch does not run on" in done.stderr
    assert b"Traceback" not in done.stderr


def test_starting_twice_finds_the_running_session(sessions: Sessions, session: dict[str, Any]) -> None:
    again = sessions.start(session=session["session"])
    assert (again["pid"], again["start_time"]) == (session["pid"], session["start_time"])


def test_the_answer_tells_of_the_machine_and_the_list_of_the_session(folder: Path, session: dict[str, Any]) -> None:
    assert {"node", "python", "arch", "gpus", "warm", "folder", "cwd"} <= set(session)
    assert session["session"] in [each["session"] for each in node(folder, "list")["sessions"]]
    assert node(folder, "status", session["session"])["kernel"]["incarnation"] == 1


def test_a_list_leaves_a_session_alone_that_is_just_being_made_and_clears_away_what_a_dead_one_left(folder: Path) -> None:
    made = folder / "s" / "justbegun1"
    made.mkdir(parents=True, mode=0o700)
    with (folder / "s" / ".justbegun1.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for command in (["list"], ["stop", "justbegun1"]):
            node(folder, *command)
            assert made.exists()
    assert "justbegun1" not in [each["session"] for each in node(folder, "list")["sessions"]]
    assert not made.exists()
    assert not (folder / "s" / ".justbegun1.lock").exists()


def test_input_is_asked_for_and_answered(client: Client) -> None:
    cell = client.execute("name = input('who? '); import getpass; print(name, getpass.getpass('secret: '))")
    for number, answer in enumerate(["ada", "hunter2"], 1):
        client.stream.until(lambda number=number: len(client.of(cell, "input_request")) >= number)
        client.message(Lane.STDIN, "input_reply", {"value": answer, "status": "ok"})
    client.finish(cell)
    assert client.text(cell) == "ada hunter2\n"
    assert [got.identities for got in client.of(cell, "input_request")] == [[b"client"]] * 2


def test_what_was_typed_is_in_no_file(client: Client, session: dict[str, Any], folder: Path) -> None:
    cell = client.execute("import getpass; secret = getpass.getpass('pass: ')")
    client.stream.until(lambda: client.of(cell, "input_request"))
    client.message(Lane.STDIN, "input_reply", {"value": "correct-horse-battery", "status": "ok"})
    client.finish(cell)
    for path in folder.rglob("*"):
        if path.is_file():
            assert b"correct-horse-battery" not in path.read_bytes(), path


def test_an_interrupt_reaches_the_cell_and_its_children_and_keeps_the_state(client: Client) -> None:
    client.run("kept = 5")
    cell = client.execute("import subprocess; print('go', flush=True); subprocess.run(['sleep', '60'])")
    client.stream.until(lambda: client.text(cell))
    client.stream.call("interrupt")
    assert client.finish(cell)["ename"] == "KeyboardInterrupt"
    after = client.execute("print(kept)")
    client.finish(after)
    assert client.text(after) == "5\n"


def test_an_interrupt_message_overtakes_a_huge_message(client: Client) -> None:
    cell = client.execute("import time; print('go', flush=True); time.sleep(60)")
    client.stream.until(lambda: client.text(cell))
    huge = client.message(Lane.SHELL, "comm_msg", {"comm_id": "none", "data": {}}, send=False, buffers=[bytes(30_000_000)])
    frames = list(data_frames(Lane.SHELL, 1, client.sent[Lane.SHELL], client.unsent[-1][2]))
    client.stream.send(*frames[: len(frames) // 2])
    interrupt = client.message(Lane.CONTROL, "interrupt_request", {})
    assert client.finish(interrupt)["status"] == "ok"
    assert client.finish(cell)["ename"] == "KeyboardInterrupt"
    client.stream.send(*frames[len(frames) // 2 :])
    client.stream.until(lambda: any(got.content["execution_state"] == "idle" for got in client.of(huge, "status")))


def test_a_killed_kernel_is_reported_and_nobody_waits_for_it(client: Client, session: dict[str, Any], folder: Path) -> None:
    cell = client.execute("print('last words', flush=True); import os, signal, time; time.sleep(0.3); os.kill(os.getpid(), signal.SIGKILL)")
    reply = client.finish(cell)
    assert (reply["ename"], "SIGKILL" in reply["evalue"]) == ("KernelDied", True)
    assert client.text(cell) == "last words\n"
    dead = client.stream.until(lambda: [got for got in client.got if got.content.get("execution_state") == "dead"])[0]
    assert (dead.content["remote_gpu"]["reason"], dead.content["remote_gpu"]["signal"], dead.parent) == ("killed", 9, {})
    assert client.run("1")["ename"] == "KernelDied"
    assert node(folder, "status", session["session"])["kernel"]["state"] == "ended"


@pytest.mark.parametrize(
    ("code", "reason", "text"),
    [("os._exit(7)", "crashed", "exit code 7"), ("os.kill(os.getpid(), signal.SIGSEGV)", "crashed", "SIGSEGV")],
)
def test_a_crash_says_how(client: Client, code: str, reason: str, text: str) -> None:
    assert text in client.run(f"import os, signal; {code}")["evalue"]
    assert client.stream.frame(Kind.EVENT, state="ended")["reason"] == reason


def test_a_restart_gives_a_new_kernel_in_the_same_session(client: Client) -> None:
    client.run("x = 1")
    first = client.stream.call("status")["kernel"]
    client.stream.call("restart")
    cell = client.execute("print('x' in globals())")
    client.finish(cell)
    second = client.stream.call("status")["kernel"]
    assert client.text(cell) == "False\n"
    assert (second["incarnation"], second["pid"] != first["pid"], exists(first["pid"])) == (2, True, False)
    restarting = [got for got in client.got if got.content.get("execution_state") == "restarting"]
    assert [got.content["remote_gpu"]["reason"] for got in restarting] == ["asked"]


def test_what_is_printed_while_the_kernel_ends_is_not_lost(client: Client) -> None:
    client.run("import atexit; atexit.register(print, 'saved the model')")
    client.stream.call("restart")
    printed = [got.content["text"] for got in client.got if got.type == "stream"]
    assert "".join(printed) == "saved the model\n"


def test_a_dead_kernel_can_be_restarted_and_a_busy_one_too(client: Client) -> None:
    client.run("import os; os._exit(1)")
    client.stream.call("restart")
    cell = client.execute("import time; print('go', flush=True); time.sleep(60)")
    client.stream.until(lambda: client.text(cell))
    client.stream.call("restart")
    assert client.finish(cell)["ename"] in {"KernelDied", "KeyboardInterrupt"}
    assert client.run("1")["status"] == "ok"


def test_a_shutdown_request_of_the_owner_ends_the_kernel_as_asked(client: Client) -> None:
    request = client.message(Lane.CONTROL, "shutdown_request", {"restart": False})
    assert client.reply(request).type == "shutdown_reply"
    assert client.stream.frame(Kind.EVENT, state="ended")["reason"] == "asked"


def test_a_cut_in_the_middle_of_the_output_loses_and_doubles_nothing(sessions: Sessions, session: dict[str, Any]) -> None:
    client = sessions.client(session)
    cell = client.execute(
        "import time\nfrom IPython.display import display\nfor i in range(20000):\n    print(i)\n"
        "    if i % 100 == 0: display(i); time.sleep(0.005)"
    )
    cuts = 0
    while not client.of(cell, "execute_reply"):
        client.stream.until(lambda: client.stream.got)
        client.stream.close()
        client.resume(sessions.command(session) if cuts % 3 == 0 else sessions.stream(session))
        cuts += 1
    assert cuts > 5
    client.finish(cell)
    assert client.text(cell).split() == [str(number) for number in range(20000)]
    assert [got.content["data"]["text/plain"] for got in client.of(cell, "display_data")] == [
        str(number) for number in range(0, 20000, 100)
    ]
    numbers = [got.number for got in client.got if got.lane is Lane.IOPUB]
    assert numbers == sorted(set(numbers))
    assert len(client.of(cell, "execute_reply")) == 1


def test_a_request_sent_during_a_cut_arrives_once(sessions: Sessions, session: dict[str, Any]) -> None:
    client = sessions.client(session)
    client.run("n = 0")
    for _ in range(3):
        sent = client.execute("n += 1")
        client.stream.close()
        lost = client.execute("n += 1", send=False)
        client.resume(sessions.stream(session))
        client.finish(sent)
        client.finish(lost)
    cell = client.execute("print(n)")
    client.finish(cell)
    assert client.text(cell) == "6\n"


def test_an_input_request_comes_again_after_a_cut(sessions: Sessions, session: dict[str, Any]) -> None:
    client = sessions.client(session)
    client.stream.acknowledge = False
    cell = client.execute("print(input('again? '))")
    client.stream.until(lambda: client.of(cell, "input_request"))
    client.stream.close()
    client.resume(sessions.stream(session))
    client.stream.until(lambda: len(client.of(cell, "input_request")) == 2)
    client.message(Lane.STDIN, "input_reply", {"value": "yes", "status": "ok"})
    client.finish(cell)
    assert client.text(cell) == "yes\n"


def test_the_newest_attach_takes_over_and_the_old_one_is_told(sessions: Sessions, session: dict[str, Any]) -> None:
    old = sessions.client(session, "same0001")
    new = sessions.client(session, "same0001")
    assert old.stream.frame(Kind.BYE)["reason"] == "superseded"
    assert new.run("1")["status"] == "ok"


def test_two_clients_work_side_by_side_and_see_each_others_output(sessions: Sessions, session: dict[str, Any]) -> None:
    one, two = sessions.client(session, "one00001"), sessions.client(session, "two00002")
    first, second = one.execute("print('one')"), two.execute("print('two')")
    one.finish(first)
    two.finish(second)
    one.stream.until(lambda: one.text(second) == "two\n")
    two.stream.until(lambda: two.text(first) == "one\n")
    assert not one.of(second, "execute_reply")


def test_the_reply_to_a_dead_client_goes_to_who_claims_it(sessions: Sessions, session: dict[str, Any]) -> None:
    dead = sessions.client(session, "dead0001")
    cell = dead.execute("import time; print(input('still? ')); 'done'")
    dead.stream.until(lambda: dead.of(cell, "input_request"))
    dead.stream.close()
    heir = sessions.client(session, "heir0002", after=0, claims=[cell])
    heir.stream.until(lambda: heir.of(cell, "input_request"))
    heir.message(Lane.STDIN, "input_reply", {"value": "here", "status": "ok"})
    assert heir.finish(cell)["status"] == "ok"
    assert heir.text(cell) == "here\n"
    late = sessions.client(session, "late0003", claims=[cell])
    assert late.reply(cell).content["status"] == "ok"


def test_a_viewer_watches_and_is_refused_with_an_answer(sessions: Sessions, session: dict[str, Any]) -> None:
    owner = sessions.client(session, "owner001")
    viewer = sessions.client(session, "viewer02", role="viewer")
    assert viewer.run("1")["ename"] == "NotAllowed"
    refused = viewer.message(Lane.CONTROL, "shutdown_request", {"restart": False})
    assert viewer.finish(refused)["ename"] == "NotAllowed"
    assert viewer.finish(viewer.message(Lane.SHELL, "kernel_info_request", {}))["status"] == "ok"
    cell = owner.execute("print('seen')")
    owner.finish(cell)
    viewer.stream.until(lambda: viewer.text(cell) == "seen\n")
    editor = sessions.client(session, "editor03", role="editor")
    assert editor.run("1")["status"] == "ok"
    assert editor.finish(editor.message(Lane.CONTROL, "shutdown_request", {"restart": True}))["ename"] == "NotAllowed"


def test_a_client_that_does_not_acknowledge_is_sent_no_more_than_its_window(client: Client) -> None:
    client.stream.acknowledge = False
    cell = client.execute("for i in range(40): print('x' * 999_999, flush=True)")
    client.reply(cell)
    client.stream.until(lambda: len(client.text(cell)) >= 7_000_000)
    for _ in range(5):
        client.stream.poll(0.1)
    assert len(client.text(cell)) <= 8 * 1024**2
    client.stream.acknowledge = True
    client.stream.send(Frame(Kind.ACK, Lane.IOPUB, 1, max(got.number for got in client.got if got.lane is Lane.IOPUB)))
    client.finish(cell)
    assert len(client.text(cell)) == 40_000_000


def test_output_that_the_journal_dropped_is_told_as_a_gap(sessions: Sessions) -> None:
    session = sessions.start(journal_limit=300_000)
    first = sessions.client(session, "first001")
    first.finish(first.execute("for i in range(200): print('x' * 20_000, flush=True)"))
    second = sessions.client(session, "second02", after=0)
    gap = second.stream.frame(Kind.GAP)
    assert gap["first"] == 1
    second.stream.until(lambda: second.got)
    assert second.got[0].number > gap["last"]


def test_a_gateway_of_another_version_is_told_so_and_the_session_lives_on(sessions: Sessions, session: dict[str, Any]) -> None:
    stream = sessions.stream(session)
    newer = sessions.stream(session, preamble(9, 9))
    assert newer.frame(Kind.BYE)["reason"] == "version_mismatch"
    assert stream.call("status")["kernel"]["state"] in {"starting", "idle"}


def test_bytes_that_are_no_frames_end_only_their_own_stream(sessions: Sessions, session: dict[str, Any]) -> None:
    stream, bad = sessions.stream(session), sessions.stream(session)
    bad.peer.sendall(b"\xff" * 64)
    assert bad.frame(Kind.BYE)["reason"] == "bad_frame"
    assert stream.call("status")["attachments"] == 0


def test_the_cell_number_of_the_notebook_is_in_its_tracebacks(client: Client) -> None:
    cell = client.execute("1/0", metadata={"remote_gpu": {"execution_count": 17}})
    assert any(
        "Cell In[17]" in line.replace("\x1b[39m", "").replace("\x1b[32m", "").replace("\x1b[36m", "")
        for line in client.finish(cell)["traceback"]
    )


def test_text_written_to_the_descriptor_and_by_children_is_shown(client: Client) -> None:
    cell = client.execute(
        "import os, sys, subprocess; os.write(1, b'raw\\n'); subprocess.run(['echo', 'child'], stdout=sys.stdout)\n!echo shell"
    )
    client.finish(cell)
    client.stream.until(lambda: sorted(client.text(cell).split()) == ["child", "raw", "shell"])


def test_stop_leaves_no_process_socket_or_file(sessions: Sessions, folder: Path) -> None:
    session = sessions.start()
    client = sessions.client(session)
    cell = client.execute(
        "import subprocess\nsubprocess.Popen(['sleep', '300'])\nsubprocess.Popen(['sleep', '300'], start_new_session=True)\nprint('on')"
    )
    client.finish(cell)
    pids = descendants_of(session["pid"])
    assert len(pids) == 4
    assert node(folder, "stop", session["session"])["stopped"]
    assert not Path(session["folder"]).exists()
    wait_for(lambda: not any(exists(pid) for pid in pids))
    assert node(folder, "stop", session["session"]) == {"ok": True, "stopped": False}


def test_clients_of_a_stopped_session_are_told(client: Client) -> None:
    client.stream.call("stop")
    client.stream.until(lambda: any(frame.kind is Kind.BYE for frame in client.stream.frames))
    assert client.stream.frame(Kind.BYE)["reason"] == "session_ended"
    dead = [got.content for got in client.got if got.content.get("execution_state") == "dead"]
    assert dead[-1]["remote_gpu"]["reason"] == "session_ended"


def test_a_termination_signal_is_a_stop(sessions: Sessions) -> None:
    session = sessions.start()
    os.kill(session["pid"], signal.SIGTERM)
    wait_for(lambda: not exists(session["pid"]) and not Path(session["folder"]).exists())


def test_the_kernel_and_its_children_die_with_the_supervisor_and_not_before(sessions: Sessions, folder: Path) -> None:
    session = sessions.start()
    client = sessions.client(session)
    client.run("import subprocess; child = subprocess.Popen(['sleep', '300'])")
    pids = descendants_of(session["pid"])
    node(folder, "zygote", "stop")
    assert client.run("1")["status"] == "ok"
    os.kill(session["pid"], signal.SIGKILL)
    wait_for(lambda: not any(exists(pid) for pid in pids))
    assert session["session"] not in [each["session"] for each in node(folder, "list")["sessions"]]
    assert not Path(session["folder"]).exists()


def test_an_idle_session_ends_itself_but_not_while_it_works(sessions: Sessions) -> None:
    session = sessions.start(idle_timeout=0.5)
    client = sessions.client(session)
    client.execute("import time; time.sleep(1.5); print('worked', flush=True); open('worked', 'w').close()")
    client.stream.until(lambda: client.stream.frame(Kind.EVENT, state="busy"))
    client.stream.close()
    wait_for(lambda: not exists(session["pid"]))
    assert (sessions.folder / "worked").exists()


def test_a_busy_session_that_nobody_attends_ends_after_its_own_time(sessions: Sessions) -> None:
    session = sessions.start(idle_timeout=60, unattended_timeout=2)
    client = sessions.client(session)
    client.execute("import time; time.sleep(100)")
    client.stream.until(lambda: client.stream.frame(Kind.EVENT, state="busy"))
    client.stream.close()
    wait_for(lambda: not exists(session["pid"]))


def test_nothing_of_the_starters_environment_reaches_a_session(folder: Path, sessions: Sessions) -> None:
    canary = "canary-5f1c9e"
    node(folder, "zygote", "stop")
    wish = {"session": "canary0", "env": session_environment(folder, LD_SOMETHING="1", SPOKEN="mine"), "cwd": str(folder)}
    answer = node(folder, "start", request=wish, JUPYTERHUB_API_TOKEN=canary, PYTHONSTARTUP=canary)
    sessions.answers.append(answer)
    client = sessions.client(answer)
    cell = client.execute("import os, json; print(json.dumps(dict(os.environ)))")
    client.finish(cell)
    names = set(json.loads(client.text(cell)))
    assert canary not in client.text(cell)
    assert not processes_with(canary)
    assert "SPOKEN" in names
    assert names - set(wish["env"]) <= {
        "JUPYTER_REMOTE_GPU_FOLDER",
        "MPLBACKEND",
        "PYDEVD_USE_FRAME_EVAL",
        "CLICOLOR",
        "CLICOLOR_FORCE",
        "FORCE_COLOR",
        "TERM",
        "PAGER",
        "GIT_PAGER",
        "LINES",
        "COLUMNS",
        "JPY_PARENT_PID",
    }
    for path in folder.rglob("*"):
        if path.is_file():
            assert canary.encode() not in path.read_bytes()


def test_a_python_without_ipykernel_is_named_with_the_cure(folder: Path, tmp_path: Path) -> None:
    python = tmp_path / "bare" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    answer = node(folder, "start", request={"session": "bare", "env": session_environment(folder)}, python=str(python))
    assert not answer["ok"]
    assert answer["problem"]["reason"] == "no_ipykernel"
    assert str(python) in answer["problem"]["title"]
    assert f"{python} -m pip install ipykernel" in answer["problem"]["hint"]


def test_a_folder_that_is_not_private_or_not_writable_is_a_problem_in_words(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    answer = node(tmp_path, "start", request={"session": "x"})
    assert (answer["problem"]["reason"], "0700" in answer["problem"]["title"]) == ("not_writable", True)
    (tmp_path / "file").write_text("")
    answer = node(tmp_path / "file" / "below", "start", request={"session": "x"})
    assert answer["problem"]["reason"] == "not_writable"


def test_bad_requests_are_problems_and_not_tracebacks(folder: Path) -> None:
    assert node(folder, "start", request={"session": "../x"})["problem"]["reason"] == "usage"
    assert node(folder, "status", "nosuch")["problem"]["reason"] == "unknown_session"
    assert node(folder, "gpus")["ok"]


def test_run_keeps_a_session_in_the_foreground_until_it_is_over(folder: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "remote_gpu.node", "run"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=node_environment(folder, CANARY="batch-canary-77"),
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin as file:
        json.dump({"session": "batch1", "env": session_environment(folder)}, file)
    answer = json.loads(process.stdout.readline().removeprefix("JRG "))
    assert (answer["ok"], answer["pid"]) == (True, process.pid)
    stream = Stream.open(folder, "batch1")
    client = Client(stream, "batch001")
    cell = client.execute("import os; print(os.environ.get('CANARY'))")
    client.finish(cell)
    assert client.text(cell) == "None\n"
    assert "batch-canary-77" not in (Path(f"/proc/{process.pid}/environ").read_text())
    stream.close()
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    process.stdout.close()
    assert not (folder / "s" / "batch1").exists()


def test_sessions_start_from_a_zip_file(folder: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.pyz"
    bundle.write_bytes(Bundle().data())
    environment = {**node_environment(folder), "PYTHONPATH": ""}
    wish = json.dumps({"session": "zipped", "env": session_environment(folder)})
    done = subprocess.run([sys.executable, str(bundle), "start"], input=wish, env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.removeprefix("JRG "))["ok"]
    stream = Stream.open(folder, "zipped")
    client = Client(stream, "zipped01")
    cell = client.execute("print(1)")
    client.finish(cell)
    stream.call("restart")
    assert client.run("1")["status"] == "ok"
    stream.close()
    subprocess.run([sys.executable, str(bundle), "stop", "zipped"], env=environment, capture_output=True, check=True)
    assert not (folder / "s" / "zipped").exists()
