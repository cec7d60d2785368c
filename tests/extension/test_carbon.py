"""Grams for a kilowatt hour: from the table, a configuration, or a live source that nobody waits for."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import Application, RequestHandler

from jupyter_remote_gpu.carbon import Basis, Intensity, footprint, lookup, rounded
from jupyter_remote_gpu.carbon_live import LiveCarbon, parse_intensity
from jupyter_remote_gpu.offers import Site

LOG = logging.getLogger("carbon")
NATIONAL = {"data": [{"from": "a", "to": "b", "intensity": {"forecast": 266, "actual": 263, "index": "moderate"}}]}
REGIONAL = {"data": [{"regionid": 3, "data": [{"intensity": {"forecast": 31, "index": "low"}, "generationmix": []}]}]}


@pytest.mark.parametrize(
    ("site", "grams", "low", "high"),
    [
        (Site("CA", "CA-QC"), 3.9, 1, 16.9),
        (Site("CA", "CA-AB"), 627.7, 590, 627.8),
        (Site("CA", "CA-NS"), 170, 170, 170),
        (Site("GB", "GB-SCT"), 237.6, 237.6, 237.6),
        (Site("GB"), 237.6, 237.6, 237.6),
    ],
)
def test_the_table_has_each_region_with_what_other_sources_say(site, grams, low, high):
    found = lookup(site)
    assert found is not None
    assert (found.grams, found.low, found.high, found.year, found.basis) == (grams, low, high, 2023, Basis.MIX)


def test_a_place_that_nobody_knows_has_no_figure():
    assert lookup(Site()) is None
    assert lookup(Site("FR")) is None


def test_two_sites_are_compared_by_one_basis():
    bases = {found.basis for region in ("CA-BC", "CA-AB", "CA-ON", "CA-QC", "GB") if (found := lookup(Site(region[:2], region)))}
    assert len(bases) == 1


def test_a_configured_figure_counts_and_says_whose_it_is():
    found = lookup(Site("GB", carbon=41.0), Intensity(150, Basis.LIVE, "x", "GB"))
    assert found is not None
    assert (found.grams, found.basis, found.high) == (41.0, Basis.SAID, 237.6)
    assert "the cluster's configuration" in found.text


def test_a_live_figure_counts_for_its_country_alone():
    live = Intensity(150, Basis.LIVE, "example.org, measured", "GB")
    assert lookup(Site("GB"), live) is live
    assert lookup(Site("CA", "CA-QC"), live) != live


def test_no_figure_has_more_than_two_digits():
    found = lookup(Site("CA", "CA-QC"))
    assert found is not None
    assert (found.json()["grams"], found.json()["high"]) == (3.9, 17)
    assert found.text == (
        "3.9 g CO₂e/kWh (CodeCarbon, mix of 2023 × its factors; beside NRCan h2k_hpxml, National Inventory Report, and Canada's Fuel LCA table, "
        "2023, mix; other sources say 1 to 17)"
    )
    assert footprint(721, Intensity(237.6, Basis.MIX, "x")) == 170
    assert [rounded(value) for value in (0.0, 1234.5, 0.00123, float("inf"))] == [0.0, 1200.0, 0.0012, 0.0]


@pytest.mark.parametrize(("answer", "found"), [(NATIONAL, (263.0, "measured")), (REGIONAL, (31.0, "forecast"))])
def test_both_forms_of_the_service_are_read(answer, found):
    assert parse_intensity(json.dumps(answer).encode()) == found


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"error": {"code": "400 Bad Request"}}',
        b'{"data": []}',
        b'{"data": [{"intensity": {"actual": null, "forecast": -4}}]}',
        b'{"data": [{"intensity": {"forecast": 99999}}]}',
        b'{"data": [{"intensity": {"forecast": true}}]}',
        b"\xff\xfe",
    ],
)
def test_an_answer_that_is_none_is_refused(answer):
    with pytest.raises(ValueError, match=r"."):
        parse_intensity(answer)


class Source:
    """Answers when it is told to."""

    def __init__(self, answer: bytes | Exception) -> None:
        self.answer, self.asked, self.go = answer, 0, asyncio.Event()

    async def __call__(self, url: str) -> bytes:
        self.asked += 1
        await self.go.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


async def settled(live: LiveCarbon) -> None:
    async with asyncio.timeout(5):
        while live._task is not None and not live._task.done():
            await asyncio.sleep(0.001)


async def test_nobody_waits_for_the_source_and_its_answer_is_kept_for_half_an_hour():
    now = [0.0]
    source = Source(json.dumps(NATIONAL).encode())
    live = LiveCarbon("https://example.org/intensity", log=LOG, fetch=source, clock=lambda: now[0])
    assert live.now() is None
    await asyncio.sleep(0)
    assert live.now() is None
    source.go.set()
    await settled(live)
    found = live.now()
    assert found is not None
    assert (found.grams, found.basis, found.region, found.source) == (263.0, Basis.LIVE, "GB", "example.org, measured")
    now[0] = 1799
    assert live.now() is found
    assert source.asked == 1
    now[0] = 1801
    source.answer = OSError("no network")
    assert live.now() is found
    await settled(live)
    assert source.asked == 2
    now[0] = 1900
    assert live.now() is found
    assert source.asked == 2
    now[0] = 7201
    assert live.now() is None
    await live.aclose()


async def test_a_source_that_does_not_answer_is_given_up(caplog):
    live = LiveCarbon("https://example.org/intensity", log=LOG, fetch=Source(b""))
    with caplog.at_level(logging.INFO, "carbon"):
        live.now()
        await settled(live)
    assert live.now() is None
    assert "no answer within 2 s" in caplog.text
    await live.aclose()


async def test_nothing_is_asked_where_no_source_is_configured():
    source = Source(b"")
    live = LiveCarbon("", log=LOG, fetch=source)
    assert live.now() is None
    await asyncio.sleep(0)
    assert source.asked == 0
    await live.aclose()


class _Answer(RequestHandler):
    def get(self, what: str) -> None:
        if what == "broken":
            self.send_error(500)
        else:
            self.finish(NATIONAL)


@pytest.mark.parametrize(("path", "grams"), [("good", 263.0), ("broken", None)])
async def test_a_real_service_is_asked_by_http(path, grams):
    listener, port = bind_unused_port()
    server = HTTPServer(Application([(r"/(\w+)", _Answer)], log_function=lambda _: None))
    server.add_socket(listener)
    live = LiveCarbon(f"http://127.0.0.1:{port}/{path}", log=LOG)
    try:
        live.now()
        await settled(live)
        found = live.now()
        assert (found.grams if found else None) == grams
    finally:
        await live.aclose()
        server.stop()
        await server.close_all_connections()
