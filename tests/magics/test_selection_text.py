from __future__ import annotations

import pytest

from remote_gpu.gateway_infos import SelectionInfo
from remote_gpu.selection_text import duration, told


def candidate(name: str, **more) -> dict:
    figures = {
        "wait": {"low": 60, "median": 720, "high": 5400, "source": "the queue: 4 GPUs before it"},
        "total": {"low": 70, "median": 730, "high": 5410, "expected": 1900},
        "start": {"value": 10, "unit": "s", "source": "a usual one"},
        "cost": {"value": 2.469, "unit": "GBP/h", "source": "1.23 GBP for a GPU and hour, by its configuration"},
        "carbon": {"value": None, "unit": "g CO₂e/kWh", "source": "nobody has said"},
    }
    return {"cluster": name, "eligible": True, "pool": "hopper", "reasons": ["2 of 8 GPUs free"], "remedies": [], **figures, **more}


def test_each_number_has_its_unit_and_below_the_table_its_source():
    against = {"cluster": "narval", "eligible": False, "reasons": ["it has no h100"], "remedies": ["--gpu a100"]}
    said = told(SelectionInfo("5e1ec7", "", "bristol", "bristol: 2 of 8 GPUs free.", (candidate("bristol"), against)))
    lines = said.splitlines()
    assert lines[0] == "bristol: 2 of 8 GPUs free."
    assert lines[2].split("  ")[0] == "cluster"
    assert "12 min (1 min to 1.5 h)" in lines[3]
    assert "2.5 GBP/h" in lines[3]
    assert lines[3].rstrip().endswith("?")
    assert "wait: the queue: 4 GPUs before it; start: a usual one; cost: 1.23 GBP for a GPU and hour, by its configuration" in lines[4]
    assert lines[-3].split("  ") == ["narval", "it has no h100", "--gpu a100"]
    assert lines[-1] == "Selection 5e1ec7."


def test_where_nothing_can_run_it_the_sentence_has_it_all():
    against = {"cluster": "narval", "eligible": False, "reasons": ["it has no h100"], "remedies": []}
    sentence = "No cluster can run this: narval: it has no h100."
    assert told(SelectionInfo("", "", "", sentence, (against,))) == sentence + "\n"


@pytest.mark.parametrize(
    ("seconds", "text"), [(-1, "0 s"), (10.4, "10 s"), (720, "12 min"), (5400, "1.5 h"), (36000, "10 h"), (260000, "3 d")]
)
def test_durations_have_about_two_figures(seconds, text):
    assert duration(seconds) == text
