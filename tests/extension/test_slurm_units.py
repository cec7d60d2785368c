"""Times and memory in Slurm's spellings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_remote_gpu.clusters.slurm_units import parse_epoch, parse_memory, parse_time, render_memory, render_time


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 1800),
        ("5:00", 300),
        ("0:02", 2),
        ("1:00:00", 3600),
        ("1-00:00:00", 86400),
        ("365-00:00:00", 31536000),
        ("1-2", 93600),
        ("1-02:03", 93780),
        ("UNLIMITED", None),
        ("infinite", None),
        ("Partition_Limit", None),
        ("N/A", None),
        ("", None),
        ("INVALID", None),
    ],
)
def test_each_spelling_of_a_time_limit_is_read(text, seconds):
    assert parse_time(text) == seconds


@pytest.mark.parametrize(
    ("text", "mib"),
    [("100M", 100), ("62.50G", 64000), ("1T", 1048576), ("500", 500), ("4Gn", 4096), ("2048K", 2), ("0", 0), ("abc", 0), ("", 0)],
)
def test_each_spelling_of_memory_is_read(text, mib):
    assert parse_memory(text) == mib


def test_a_time_without_its_zone_says_nothing():
    assert parse_epoch("1795788988") == 1795788988.0
    assert [parse_epoch(text) for text in ("2026-11-27T14:16:28", "Unknown", "N/A", "None", "")] == [0.0] * 5


@given(st.integers(min_value=1, max_value=366 * 86400))
def test_a_time_limit_that_is_rendered_reads_back_as_at_most_a_minute_more(seconds):
    read = parse_time(render_time(seconds))
    assert read is not None
    assert seconds <= read < seconds + 60
    assert read % 60 == 0


@given(st.integers(min_value=0, max_value=10**9))
def test_memory_that_is_rendered_reads_back(mib):
    assert parse_memory(render_memory(mib)) == mib
