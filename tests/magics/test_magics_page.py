"""The page on the magics says what the magics say."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from remote_gpu.arguments import CELL_USAGE, LINE_USAGE, Verb
from remote_gpu.execution import Execution, Outcome, Result
from remote_gpu.record import RECORD_MIME, record_bundle
from remote_gpu.sessions import facts_of

PAGE = (Path(__file__).parents[2] / "docs/reference/magics.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("usage", [CELL_USAGE, LINE_USAGE])
def test_the_page_has_the_usage_texts_word_for_word(usage):
    assert f"```text\n{usage}\n```" in PAGE


def test_the_usage_text_has_every_command():
    assert all(re.search(rf"^  {verb}\b", LINE_USAGE, re.MULTILINE) for verb in Verb)


def test_the_page_explains_every_field_of_the_record():
    from remote_gpu.gateway import SessionInfo

    run = SimpleNamespace(
        facts=facts_of(SessionInfo("id")),
        started=0.0,
        ended=1.0,
        outcome=Outcome(Result.OK),
        began=True,
        detached=False,
        execution=Execution("m"),
    )
    table = PAGE.partition("## The run record")[2].partition("## Limits")[0]
    assert all(f"`{name}`" in table for name in [*record_bundle(run)[RECORD_MIME], "queued_s"])
