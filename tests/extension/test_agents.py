"""An agent that a plain process here is, as one behind ssh would be."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import zipfile

import pytest

from jupyter_remote_gpu.clusters.agent_machine import AgentMachine
from jupyter_remote_gpu.clusters.agents import Agent, boot_text
from jupyter_remote_gpu.clusters.bundle import Bundle
from jupyter_remote_gpu.clusters.machines import ask_node
from jupyter_remote_gpu.clusters.prologue import with_prologue
from jupyter_remote_gpu.clusters.transports import Direct
from remote_gpu.errors import LinkProblem, NotWritable, StartFailed

RUN = "import sys; exec(sys.stdin.buffer.read(int(sys.argv[1])))"


def why(said: str) -> LinkProblem:
    return LinkProblem(f"it said {said}")


def others() -> list[str]:
    """The Pythons 3.x of this machine, our own among them."""
    found = [shutil.which(f"python3.{minor}") for minor in range(6, 15)]
    return [each for each in found if each and subprocess.run([each, "-c", ""], capture_output=True, check=False).returncode == 0]


async def opened(folder, *, before=(), python=sys.executable, fetched=None, unused=60, meanwhile=None) -> Agent:
    bundle = Bundle()

    async def data() -> bytes:
        if meanwhile is not None:
            await meanwhile()
        if fetched is not None:
            fetched.append(1)
        return bundle.sources()

    boot = [python, "-u", "-c", RUN, str(len(boot_text())), bundle.sources_digest, str(folder)]
    env = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    return await Agent.open([*before, *boot], env, name="there", bundle=data, why=why, limit=30, unused=unused)


async def test_an_agent_fetches_the_nodes_half_once_and_says_where_it_is(tmp_path):
    fetched = []
    for _ in range(2):
        agent = await opened(tmp_path, fetched=fetched)
        assert agent.hello.bundle == str(tmp_path / "b" / f"{Bundle().sources_digest[:16]}-{sys.implementation.cache_tag}.pyz")
        assert agent.hello.uid == os.getuid()
        await agent.aclose()
    assert fetched == [1]
    with zipfile.ZipFile(agent.hello.bundle) as made:
        assert {name for name in made.namelist() if name.endswith(".py")} == {
            name[:-1] for name in made.namelist() if name.endswith(".pyc")
        }
    assert not list((tmp_path / "b").glob("*.pyz.*"))


async def test_of_two_that_make_the_nodes_half_in_one_home_the_first_is_kept_for_it_may_be_read_by_now(tmp_path):
    first = []

    async def meanwhile():
        agent = await opened(tmp_path)
        first.extend([agent, os.stat(agent.hello.bundle).st_ino])

    second = await opened(tmp_path, meanwhile=meanwhile)
    assert (second.hello.bundle, os.stat(second.hello.bundle).st_ino) == (first[0].hello.bundle, first[1])
    assert len(list((tmp_path / "b").iterdir())) == 1
    await asyncio.gather(first[0].aclose(), second.aclose())


@pytest.mark.parametrize("python", others())
async def test_any_python_that_can_run_a_session_can_be_the_machines_and_an_older_one_says_so(python, tmp_path):
    if int(python.rpartition(".")[2]) < 10:
        with pytest.raises(StartFailed, match=r"is Python 3\.\d; a session needs 3\.10"):
            await opened(tmp_path, python=python)
        return
    agent = await opened(tmp_path, python=python)
    assert agent.hello.bundle.endswith(".pyz")
    assert (await agent.run(["cat"], given="in", limit=10, env=None)).out == "in"
    await agent.aclose()


async def test_commands_run_side_by_side_each_with_its_own_answer(tmp_path):
    agent = await opened(tmp_path)
    try:
        slow = asyncio.create_task(agent.run(["sleep", "0.5"], given="", limit=10, env=None))
        quick = await agent.run(["sh", "-c", 'cat; echo "$WHO" >&2; exit 3'], given="in", limit=10, env={"WHO": "me"})
        assert not slow.done()
        assert (quick.status, quick.out, quick.err) == (3, "in", "me\n")
        assert (await agent.run(["no-such-program"], given="", limit=10, env=None)).status == 127
        assert (await agent.run(["sleep", "60"], given="", limit=0.1, env=None)).status is None
        assert (await slow).status == 0
        await agent.ping(5)
    finally:
        await agent.aclose()


async def test_a_file_is_waited_for_while_commands_go_on(tmp_path):
    agent = await opened(tmp_path)
    try:
        assert not await agent.appears(str(tmp_path / "never"), 0.05)
        waiting = asyncio.create_task(agent.appears(str(tmp_path / "log"), 60))
        assert (await agent.run(["touch", str(tmp_path / "other")], given="", limit=10, env=None)).status == 0
        assert not waiting.done()
        (tmp_path / "log").touch()
        assert await waiting
        assert await agent.appears(str(tmp_path / "log"), 0)
    finally:
        await agent.aclose()


async def test_banners_of_a_login_shell_are_passed_over(tmp_path):
    agent = await opened(tmp_path, before=["sh", "-c", 'echo "*** Welcome ***"; echo JRG-like noise; exec "$@"', "sh"])
    assert agent.hello.node
    await agent.aclose()


async def test_an_agent_that_dies_fails_who_waits_with_its_last_words(tmp_path):
    agent = await opened(tmp_path)
    waits = asyncio.create_task(agent.run(["sleep", "60"], given="", limit=60, env=None))
    await agent.ping(5)
    os.kill(agent._process.pid, signal.SIGKILL)
    with pytest.raises(LinkProblem, match="it said"):
        await waits
    assert agent.ended
    with pytest.raises(LinkProblem):
        await agent.ping(5)
    await agent.aclose()


async def test_a_prologue_gives_its_environment_to_all_commands_and_says_which_line_failed(tmp_path):
    agent = await opened(tmp_path, before=with_prologue(["export FROM_PROLOGUE='a b'", "true # a comment"], []))
    assert (await agent.run(["sh", "-c", "echo $FROM_PROLOGUE"], given="", limit=5, env=None)).out == "a b\n"
    await agent.aclose()
    with pytest.raises(LinkProblem, match="JRG-PROLOGUE-FAILED: module load nothing"):
        await opened(tmp_path, before=with_prologue(["module load nothing"], []))


async def test_a_folder_that_refuses_and_a_python_that_is_too_old_are_told_as_such(tmp_path):
    blocked = tmp_path / "blocked"
    blocked.write_text("a file")
    with pytest.raises(NotWritable):
        await opened(blocked)
    old = tmp_path / "old"
    old.write_text(f"#!{sys.executable}\nimport sys\nsys.version_info = (3, 6, 8)\nsys.argv = sys.argv[3:]\nexec({RUN!r})\n")
    old.chmod(0o755)
    with pytest.raises(StartFailed, match=r"needs 3\.10"):
        await opened(tmp_path, python=str(old))


async def test_an_agent_that_nobody_uses_ends_and_the_next_command_opens_another(tmp_path, monkeypatch):
    agent = await opened(tmp_path, unused=0.1)
    async with asyncio.timeout(10):
        while not agent.ended:
            await asyncio.sleep(0.02)
        await agent._process.wait()
    await agent.aclose()


async def test_this_machine_answers_through_an_agent_too(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    here = AgentMachine(Direct(), Bundle(), python=sys.executable, prologue=["export SEEN=1"])
    assert (await here.run(["sh", "-c", "echo $SEEN"])).out == "1\n"
    assert (await here.run(["sh", "-c", "cat; exit 3"], given="in")).status == 3
    assert (await here.run(["no-such-program"])).status == 127
    assert (await here.run(["sleep", "9"], limit=0.1)).status is None
    assert (await ask_node(here, ["gpus"], step="Looking"))["ok"]
    argv, env = await here.command(["cat"])
    assert argv == ["cat"]
    assert "PATH" in env
    await here.aclose()


async def test_a_start_sees_to_the_login_although_the_agent_answers(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    asked = []

    class Counting(Direct):
        async def ready(self, *, ask: bool) -> None:
            asked.append(ask)

    machine = AgentMachine(Counting({}), Bundle(), python=sys.executable)
    try:
        await machine.hello(ask=True)
        await machine.hello(ask=True)
        await machine.run(["true"])
        assert asked == [True, True], "once for each start, and not again for the agent"
    finally:
        await machine.aclose()
