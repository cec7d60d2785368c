"""What a new session is asked for."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from remote_gpu.resources import OPTIONS, Request, parse_size, parse_time, request_of

API = Path(__file__).parents[2] / "docs/reference/rest-api.yaml"
HOUR, DAY = 3600, 86400


@pytest.mark.parametrize(
    ("text", "mib"),
    [("64G", 65536), ("512M", 512), ("1.5T", 1572864), ("0.5g", 512), ("80GB", 81920), ("1 GiB", 1024), ("0.1M", 1), ("1.0001G", 1025)],
)
def test_a_size_is_in_mebibytes(text, mib):
    assert parse_size(text) == mib


@pytest.mark.parametrize("text", ["64", "", "G", "0G", "-1G", "1e3G", "64K", "64GX", "inf", "1,5T"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ValueError):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2h", 2 * HOUR),
        ("90m", 90 * 60),
        ("45min", 45 * 60),
        ("1d12h", 36 * HOUR),
        ("1d 12h", 36 * HOUR),
        ("1.5H", 5400),
        ("30s", 30),
        ("1h30m10s", 5410),
        ("90", 90 * 60),  # from here on as sbatch(1) has it
        ("90:30", 90 * 60 + 30),
        ("1:30:00", 5400),
        ("08:00:00", 8 * HOUR),
        ("1-12", 36 * HOUR),
        ("2-0", 2 * DAY),
        ("1-12:30", 36 * HOUR + 1800),
        ("1-12:30:15", 36 * HOUR + 1815),
        ("0:0:1", 1),
    ],
)
def test_a_time_is_in_seconds(text, seconds):
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "0h", "soon", "h", "1x", "12h1d", "1:2:3:4", "-5", "1-", "UNLIMITED", "1h90"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ValueError):
        parse_time(text)


@given(st.text())
def test_any_text_is_understood_or_refused(text):
    for parse in (parse_size, parse_time):
        with contextlib.suppress(ValueError):
            assert parse(text) >= 1


@given(st.integers(0, 99), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
def test_days_hours_minutes_and_seconds_mean_the_same_in_both_manners(days, hours, minutes, seconds):
    total = days * DAY + hours * HOUR + minutes * 60 + seconds
    if total:
        assert parse_time(f"{days}-{hours}:{minutes}:{seconds}") == parse_time(f"{days}d{hours}h{minutes}m{seconds}s") == total


def test_only_what_is_asked_for_is_sent():
    assert Request().json() == {}
    assert not Request()
    assert Request(gpus=0).json() == {"gpus": 0}
    assert request_of({"--gpus": "2", "--exclusive": "", "--session": "a"}).json() == {"gpus": 2, "exclusive": True}


def test_the_options_are_the_fields_of_the_gateways_request_and_demand():
    schemas = yaml.safe_load(API.read_text(encoding="utf-8"))["components"]["schemas"]
    wish, resources, demand = (set(schemas[name]["properties"]) for name in ("Wish", "Request", "Demand"))
    assert {option.field for option in OPTIONS.values()} == set(Request.__slots__)
    assert set(Request.__slots__) == resources | (demand - {"run_on", "data_mb"}) | ({"fallback", "race"} & wish)


def test_what_is_asked_for_what_matters_and_how_are_told_apart():
    said = request_of({"--gpus": "1", "--prefer": "time=1,cost=0.5", "--only": "a, b,a", "--internet": "", "--race": "2", "--runs": "90m"})
    assert said.json() == {"gpus": 1}
    assert said.demand() == {"prefer": {"time": 1.0, "cost": 0.5}, "only": ["a", "b"], "internet": True, "run_seconds": 5400}
    assert said.how() == {"race": 2}
    assert request_of({"--prefer": "greenest"}).demand() == {"prefer": "greenest"}


@pytest.mark.parametrize(
    ("option", "text"), [("--prefer", "fastest"), ("--prefer", "time=much"), ("--prefer", "luck=1"), ("--race", "1"), ("--only", ",")]
)
def test_what_matters_is_refused_when_it_cannot_be(option, text):
    with pytest.raises(ValueError):
        request_of({option: text})


def test_a_request_is_a_key():
    assert {Request(gpus=1): "x"}[Request(gpus=1)] == "x"
