"""The link against a node in memory: nothing lost, nothing doubled, nothing out of order."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes.node import WINDOW, FakeNode
from tests.fakes.streams import Faults

from jupyter_remote_gpu.backoff import Backoff
from jupyter_remote_gpu.link import Link
from jupyter_remote_gpu.models import LinkState
from remote_gpu.errors import AccessRefused, LinkProblem, NotAllowed, RemoteGpuError, SessionEnded, VersionMismatch
from remote_gpu.frames import Frame, Kind, Lane, Message, encode_json

AT_ONCE = Backoff(first=0.001, longest=0.002, random=random.Random(1).random)


class Taker:
    """Takes what the link delivers; with `greedy` it acknowledges at once."""

    def __init__(self, greedy=True):
        self.got, self.gaps, self.byes = [], [], []
        self.greedy = greedy
        self.attachment = None

    def message(self, lane, number, message):
        self.got.append((lane, number, [bytes(part) for part in message.parts]))
        if self.greedy and self.attachment is not None:
            self.attachment.ack(lane, number)

    def gap(self, first, last):
        self.gaps.append((first, last))

    def bye(self, problem):
        self.byes.append(problem)

    def numbers(self, lane=Lane.IOPUB):
        return [number for kind, number, _ in self.got if kind is lane]


class World:
    """A link to a fake node, with what it reported."""

    def __init__(self, faults: Iterator[Faults] | None = None, **options):
        self.node = FakeNode(faults)
        self.states, self.events = [], []
        self.link = Link(
            self.node.open_stream,
            on_event=self.events.append,
            on_state=lambda state, detail: self.states.append((state, detail)),
            **({"backoff": AT_ONCE} | options),
        )

    async def __aenter__(self):
        await self.link.start()
        return self

    async def __aexit__(self, *_):
        await self.link.aclose()
        await self.node.aclose()

    async def attach(self, name="a", greedy=True, **options):
        taker = Taker(greedy)
        taker.attachment = await self.link.attach(id=name, **({"role": "owner", "after": 0, "deliver": taker} | options))
        return taker


async def until(condition, seconds=20):
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.001)


def request(text, size=0):
    return Message([b"client"], [text.encode(), b"{}", b"{}", b"x" * size])


fault = st.builds(
    Faults,
    seed=st.integers(0, 2**16),
    cut_up=st.integers(1, 5000),
    cut_down=st.integers(1, 20000),
    repeat=st.sampled_from([0.0, 0.3]),
    chunk=st.sampled_from([7, 100, 1 << 20]),
    turns=st.sampled_from([0, 3]),
)


def test_what_the_node_says_is_answered_while_it_has_more_to_say():
    """Else that might wait in `srun` for TCP's acknowledgement; and so might our next word, if we answered when nothing is to come."""
    asyncio.run(_answers())


async def _answers():
    async with World() as world:
        await world.attach()
        gateway, node = world.node.streams[0], world.node.clients["a"].stream

        async def answered(*frames):
            gateway.sent.clear()
            await node.send([*frames, Frame(Kind.PING, number=7)])
            await until(lambda: Frame(Kind.PONG, number=7) in gateway.sent)
            await node.send([encode_json(Kind.EVENT, {"event": "warning", "text": "x"})])
            world.node.publish(b"text")
            await until(lambda: any(frame.kind is Kind.ACK for frame in gateway.sent))
            return Frame(Kind.PONG) in gateway.sent

        busy = encode_json(Kind.EVENT, {"event": "kernel", "state": "busy"})
        assert not await answered(busy), "a stream that holds nothing back needs none of it"
        gateway.holds_back = True
        assert await answered()
        assert not await answered(encode_json(Kind.EVENT, {"event": "kernel", "state": "idle"}))
        world.node.answers.clear()
        asked = asyncio.create_task(world.link.call("status", {}))
        await until(lambda: any(frame.kind is Kind.CALL for frame in gateway.sent))
        assert await answered()
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)


@settings(max_examples=40, deadline=None)
@given(faults=st.lists(fault, max_size=8), sizes=st.lists(st.integers(0, 3000), min_size=1, max_size=12), big=st.booleans())
def test_everything_arrives_once_and_in_order_whatever_befalls_the_streams(faults, sizes, big):
    asyncio.run(_both_ways(faults, sizes, big))


async def _both_ways(faults, sizes, big):
    async with World(iter(faults)) as world:
        taker = await world.attach()
        for count, size in enumerate(sizes):
            world.node.publish(b"%d" % count, b"y" * size)
            world.node.reply(Lane.SHELL, "a", b"client", b"r%d" % count)
            taker.attachment.send(Lane.SHELL, request(f"s{count}", size))
            taker.attachment.send(Lane.CONTROL, request(f"c{count}"))
            await asyncio.sleep(0)
        if big:
            world.node.publish(b"big", b"z" * 600_000)
            taker.attachment.send(Lane.SHELL, request("big", 600_000))
        wanted = len(sizes) + big
        await until(lambda: len(taker.numbers()) >= wanted and len(taker.numbers(Lane.SHELL)) >= len(sizes))
        await until(lambda: len(world.node.taken) >= wanted + len(sizes))
        await until(lambda: not taker.attachment.held)
        assert [parts[0] for lane, _, parts in taker.got if lane is Lane.IOPUB] == [b"%d" % n for n in range(len(sizes))] + [b"big"] * big
        assert [parts[0] for lane, _, parts in taker.got if lane is Lane.SHELL] == [b"r%d" % n for n in range(len(sizes))]
        for lane, letter in ((Lane.SHELL, "s"), (Lane.CONTROL, "c")):
            had = [message.parts[0].decode() for _, kind, message in world.node.taken if kind is lane]
            assert had == [f"{letter}{n}" for n in range(len(sizes))] + ["big"] * (big and lane is Lane.SHELL)


async def test_requests_sent_while_the_stream_is_down_arrive_once():
    async with World() as world:
        taker = await world.attach()
        world.node.refusal = LinkProblem("The network is away.")
        await world.node.cut()
        await until(lambda: world.link.state is LinkState.RECONNECTING)
        for count in range(5):
            taker.attachment.send(Lane.SHELL, request(str(count)))
        await until(lambda: world.node.attempts > 5)
        world.node.refusal = None
        await until(lambda: len(world.node.taken) == 5)
        assert [message.parts[0] for _, _, message in world.node.taken] == [b"0", b"1", b"2", b"3", b"4"]
        assert world.states[0] == (LinkState.CONNECTED, "")
        assert (LinkState.RECONNECTING, "The network is away.") in world.states


async def test_an_urgent_message_overtakes_one_of_200_megabytes():
    async with World() as world:
        taker = await world.attach()
        taker.attachment.send(Lane.SHELL, request("data", 200_000_000))
        await until(lambda: len(world.node.order) > 10)
        before = sum(size for _, size in world.node.order)
        taker.attachment.send(Lane.CONTROL, request("interrupt"))
        await until(lambda: any(lane is Lane.CONTROL for lane, _ in world.node.order))
        place = next(place for place, (lane, _) in enumerate(world.node.order) if lane is Lane.CONTROL)
        assert sum(size for _, size in world.node.order[:place]) - before <= 2 * 512 * 1024
        await until(lambda: len(world.node.taken) == 2)
        assert len(world.node.taken[1][2].parts[3]) == 200_000_000


async def test_two_attachments_share_a_lane_by_turns():
    async with World() as world:
        one, two = await world.attach("one"), await world.attach("two")
        one.attachment.send(Lane.SHELL, request("large", 20_000_000))
        two.attachment.send(Lane.SHELL, request("small"))
        await until(lambda: len(world.node.taken) == 2)
        assert [name for name, _, _ in world.node.taken] == ["two", "one"]


async def test_a_client_that_takes_nothing_is_sent_no_more_than_the_window():
    async with World() as world:
        slow, quick = await world.attach("slow", greedy=False), await world.attach("quick")
        for _ in range(200):
            world.node.publish(b"x" * 100_000)
        await until(lambda: len(quick.got) == 200)
        assert world.node.clients["slow"].most_unacked <= WINDOW
        had = len(slow.got)
        assert had < 200
        for attempts in (2, 3, 4):  # cuts do not add to what is held
            await world.node.cut()
            await until(lambda wanted=attempts: world.node.attempts == wanted and world.link.state is LinkState.CONNECTED)
        slow.greedy = True
        slow.attachment.ack(Lane.IOPUB, slow.got[-1][1])
        await until(lambda: len(slow.got) == 200)
        assert slow.numbers() == list(range(1, 201))


async def test_a_client_may_begin_now_or_after_what_it_had():
    async with World() as world:
        for _ in range(5):
            world.node.publish(b"old")
        late, resumed = await world.attach("late", after=None), await world.attach("resumed", after=3)
        assert late.attachment.head == 5
        await world.node.cut()
        world.node.publish(b"new")
        await until(lambda: late.numbers() == [6] and resumed.numbers() == [4, 5, 6])


async def test_a_gap_is_told_once_and_the_rest_follows():
    async with World() as world:
        for _ in range(9):
            world.node.publish(b"x")
        world.node.floor = 6
        taker = await world.attach()
        await until(lambda: taker.numbers() == [6, 7, 8, 9])
        assert taker.gaps == [(1, 5)]


async def test_claimed_replies_and_prompts_come_and_come_again_until_they_were_taken():
    async with World() as world:
        world.node.reply(Lane.SHELL, "dead", b"old client", b"answer", parent="m1")
        heir = await world.attach("heir", claims=["m1"])
        await until(lambda: heir.numbers(Lane.SHELL) == [1])
        heir.greedy = False
        world.node.ask("heir", b"client", b"name?")
        await until(lambda: heir.numbers(Lane.STDIN) == [1])
        await world.node.cut()
        await until(lambda: world.node.wishes[-1]["received"] == {"shell": 1, "control": 0} and world.node.attempts == 2)
        assert heir.numbers(Lane.STDIN) == [1]


@pytest.mark.parametrize("problem", [SessionEnded("It ended."), VersionMismatch("Too old."), AccessRefused("Wrong key.")])
async def test_what_trying_again_cannot_mend_is_not_tried_again(problem):
    async with World() as world:
        taker = await world.attach()
        call = asyncio.create_task(world.link.call("never answered"))
        await asyncio.sleep(0)
        world.node.refusal = problem
        await world.node.cut()
        await until(lambda: world.link.state is LinkState.LOST)
        assert world.node.attempts == 2
        assert taker.byes == [problem]
        assert world.states[-1] == (LinkState.LOST, str(problem))
        with pytest.raises(type(problem)):
            await call
        with pytest.raises(type(problem)):
            await world.attach("another")


async def test_a_lost_link_is_taken_up_again_when_told_to():
    async with World() as world:
        taker = await world.attach()
        world.node.refusal = AccessRefused("Wrong key.")
        await world.node.cut()
        await until(lambda: world.link.state is LinkState.LOST)
        world.node.refusal = None
        world.node.publish(b"meanwhile")
        world.link.reconnect()
        await until(lambda: taker.numbers() == [1])


async def test_a_first_failure_is_the_callers():
    world = World()
    world.node.refusal = LinkProblem("No way there.")
    with pytest.raises(LinkProblem, match="No way there"):
        await world.link.start()
    await world.link.aclose()


async def test_a_role_that_is_not_allowed_is_refused_by_its_name():
    async with World() as world:
        with pytest.raises(NotAllowed):
            await world.attach(role="nobody")


async def test_calls_survive_a_cut_and_bring_back_errors():
    def fail(_):
        raise SessionEnded("Gone.")

    async with World() as world:
        assert await world.link.call("status") == {"ok": True}
        world.node.answers["stop"] = fail
        with pytest.raises(SessionEnded, match="Gone"):
            await world.link.call("stop")
        late = asyncio.create_task(world.link.call("restart", {"x": 1}))
        await asyncio.sleep(0)
        world.node.answers["restart"] = lambda params: params
        await world.node.cut()
        assert await late == {"x": 1}
        with pytest.raises(LinkProblem, match="did not answer"):
            await world.link.call("unknown", timeout=0.01)


async def test_a_silent_node_is_given_up_and_a_quiet_one_is_not():
    async with World(ping_after=0.02, give_up_after=0.2) as world:
        await world.attach()
        await until(lambda: sum(frame.kind.name == "PING" for frame in world.node.streams[0].sent) > 3)
        assert world.node.attempts == 1
        world.node.mute = True
        await until(lambda: world.node.attempts > 1)
        assert any("silent" in detail for _, detail in world.states)


async def test_detaching_lets_the_last_message_go_first():
    async with World() as world:
        taker = await world.attach()
        taker.attachment.send(Lane.SHELL, request("last", 2_000_000))
        await world.link.detach(taker.attachment)
        await until(lambda: len(world.node.taken) == 1 and not world.node.clients)


async def test_the_kernels_state_is_reported():
    async with World() as world:
        await until(lambda: world.link.kernel is not None)
        assert world.link.kernel == {"state": "idle", "incarnation": 1}
        assert world.events[0]["event"] == "kernel"


async def test_a_closed_link_leaves_no_task():
    before = asyncio.all_tasks()
    async with World() as world:
        await world.attach()
    assert asyncio.all_tasks() == before
    assert all(stream.closed for stream in world.node.streams)
    with pytest.raises(RemoteGpuError):
        await world.link.call("status")


class EndsWhenToldTo:
    """A stream that ends in the very turn of the loop in which `end` is set."""

    def __init__(self):
        self.end = asyncio.get_running_loop().create_future()

    async def send(self, frames):
        pass

    async def receive(self):
        return await self.end

    async def aclose(self):
        pass


async def test_a_stream_that_ends_exactly_while_the_link_is_closed_does_not_keep_it_open():
    streams = []

    async def open_stream():
        streams.append(EndsWhenToldTo())
        return streams[-1]

    link = Link(open_stream, on_event=lambda _: None, on_state=lambda *_: None, backoff=AT_ONCE)
    await link.start()
    for _ in range(5):  # until all three tasks of the stream wait
        await asyncio.sleep(0)
    before = [task for task in asyncio.all_tasks() if task.get_coro().__name__ == "_read"]
    assert len(before) == 1
    streams[0].end.set_result([])
    while not before[0].done():
        await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await link.aclose()
    assert len(streams) == 1


def test_waits_grow_with_jitter_and_the_first_is_none():
    waits = Backoff(first=1, factor=2, longest=5, random=lambda: 0.5).waits()
    assert [next(waits) for _ in range(6)] == [0.0, 0.75, 1.5, 3.0, 3.75, 3.75]
