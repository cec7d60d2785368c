"""The page on selection shows what a ranking really says."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from remote_gpu.gateway_infos import SelectionInfo
from remote_gpu.selection_text import told

ROOT = Path(__file__).parents[2]


def test_the_worked_example_and_its_figure_are_what_the_ranking_says():
    spec = importlib.util.spec_from_file_location("selection_example", ROOT / "scripts" / "selection_example.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    selection = module.example()
    data = selection.json()
    text = told(SelectionInfo(chosen=data["chosen"], sentence=data["sentence"], candidates=tuple(data["candidates"])))
    assert text.rstrip() in (ROOT / "docs" / "explanation" / "selection.md").read_text(encoding="utf-8")
    assert module.FIGURE.read_text(encoding="utf-8") == module.figure(selection)
