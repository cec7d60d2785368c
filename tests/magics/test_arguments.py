"""The magics' lines."""

from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote_gpu.arguments import CELL_OPTIONS, CELL_USAGE, LINE_USAGE, CellLine, LineError, Verb, VerbLine, parse_cell, parse_verb
from remote_gpu.cell import numbered
from remote_gpu.resources import Request


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", CellLine()),
        ("--session a --cluster=b --gpus 2", CellLine("a", "b", Request(gpus=2))),
        ("--gpus 0 --exclusive", CellLine(request=Request(gpus=0, exclusive=True))),
        ("--gpu 'NVIDIA H100' --gpu-memory 80G", CellLine(request=Request(gpu_model="NVIDIA H100", gpu_memory_mb=81920))),
        ("--cpus 8 --memory=64G --time 1d12h --nodes 2", CellLine(request=Request(cpus=8, memory_mb=65536, time=129600, nodes=2))),
        (
            "--partition p --account a --qos q --constraint 'x&y' --reservation r",
            CellLine(request=Request(partition="p", account="a", qos="q", constraint="x&y", reservation="r")),
        ),
        ("--session 'two words'  # a comment", CellLine("two words")),
        ("--help", CellLine(help=True)),
        ("-h", CellLine(help=True)),
        ("-i a,b -o c", CellLine(inputs=("a", "b"), outputs=("c",))),
        ("-i a, b -o=c", CellLine(inputs=("a", "b"), outputs=("c",))),
        ("--input 'a , b' --input a --input=ö", CellLine(inputs=("a", "b", "ö"))),
        ("-i a,", CellLine(inputs=("a",))),
        ("--no-sync", CellLine(sync=False)),
        ("--files data.csv,'my folder' --files ~/x", CellLine(files=("data.csv", "my folder", "~/x"))),
        ("--background", CellLine(background=True)),
        ("--background --name fit", CellLine(background=True, name="fit")),
    ],
)
def test_a_cells_options_are_read(line, expected):
    assert parse_cell(line) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", VerbLine()),
        ("start", VerbLine(Verb.START)),
        ("start big --cluster c --gpus 4", VerbLine(Verb.START, "big", "c", Request(gpus=4))),
        ("extend", VerbLine(Verb.EXTEND)),
        ("extend a --time 30", VerbLine(Verb.EXTEND, "a", request=Request(time=1800))),
        ("login", VerbLine(Verb.LOGIN)),
        ("login c", VerbLine(Verb.LOGIN, cluster="c")),
        ("logout --cluster c", VerbLine(Verb.LOGOUT, cluster="c")),
        ("on --time 2h", VerbLine(Verb.ON, request=Request(time=7200))),
        ("logs a --lines=7", VerbLine(Verb.LOGS, "a", lines=7)),
        ("on --session a", VerbLine(Verb.ON, session="a")),
        ("--help", VerbLine(Verb.HELP)),
        ("stop --help", VerbLine(Verb.HELP)),
        ("push a", VerbLine(Verb.PUSH, words=("a",))),
        ("push a, b,c d --session s", VerbLine(Verb.PUSH, "s", session="s", words=("a", "b", "c", "d"))),
        ("pull x", VerbLine(Verb.PULL, words=("x",))),
        ("vars", VerbLine(Verb.VARS)),
        ("vars s", VerbLine(Verb.VARS, "s")),
        ("put 'my data.csv'", VerbLine(Verb.PUT, words=("my data.csv",))),
        ("put a/b c --session s", VerbLine(Verb.PUT, "s", session="s", words=("a/b", "c"))),
        ("get out.npz", VerbLine(Verb.GET, words=("out.npz",))),
        ("queue --session s", VerbLine(Verb.QUEUE, "s", session="s")),
        ("cancel fit-2", VerbLine(Verb.CANCEL, words=("fit-2",))),
    ],
)
def test_a_command_is_read(line, expected):
    assert parse_verb(line) == expected


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--sesion a", "Did you mean --session?"),
        ("--gpus -1", "--gpus needs a number of GPUs"),
        ("--gpuss 1", "Did you mean --gpus?"),
        ("--memroy 1G", "Did you mean --memory?"),
        ("--partion p", "Did you mean --partition?"),
        ("--cpus 0", "--cpus needs a number of at least 1, not '0'"),
        ("--memory 64", "--memory needs a size such as 64G, 512M or 1.5T, not '64'"),
        ("--time soon", "--time needs a time such as 2h, 90m or 1d12h, or one as Slurm has it"),
        ("--exclusive=1", "--exclusive takes no value"),
        ("--account ' '", "--account needs an account"),
        ("--gpus", "needs a value"),
        ("--session --gpus 1", "needs a value"),
        ("name", "--session name"),
        ("stop", "%remote_gpu stop"),
        ("-i", "--input needs a value"),
        ("-i -o b", "--input needs a value"),
        ("-i ,", "at least one name"),
        ("-i x[0]", "names of variables"),
        ("-o a.b", "names of variables"),
        ("-i for", "names of variables"),
        ("--files ,", "at least one path"),
        ("--no-sync=1", "takes no value"),
        ("--name fit", "--background"),
        ("--backgroud", "Did you mean --background?"),
    ],
)
def test_a_mistake_in_a_cells_line_says_what_was_meant(line, said):
    with pytest.raises(LineError, match=said):
        parse_cell(line)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("satus", "Did you mean status?"),
        ("stop a b", "takes one name"),
        ("on a", "takes no name"),
        ("stop --gpus 1", "has no option --gpus"),
        ("extend --tim 1h", "Did you mean --time?"),
        ("login a b", "takes one name"),
        ("login a --cluster b", "One name is enough"),
        ("logn", "Did you mean login?"),
        ("push", "needs the names of variables"),
        ("pull --session s", "needs the names of variables"),
        ("push a.b", "names of variables"),
        ("put", "needs a file or a folder"),
        ("get a b c", "in quotation marks"),
        ("cancel", "needs a job"),
        ("cancel 1 2", "takes a job"),
        ("vars a b", "takes one name"),
        ("pusj a", "Did you mean push?"),
    ],
)
def test_a_mistake_in_a_command_says_what_was_meant(line, said):
    with pytest.raises(LineError, match=said):
        parse_verb(line)


@pytest.mark.parametrize("verb", ["status", "start", "attach", "interrupt", "restart", "stop", "extend", "logs", "use", "vars", "queue"])
def test_a_session_is_named_with_or_without_the_option(verb):
    assert (
        parse_verb(f"{verb} --session two").name == parse_verb(f"{verb} two").name == parse_verb(f"{verb} two --session=two").name == "two"
    )


@given(st.text())
def test_any_line_is_understood_or_a_mistake(line):
    for parse in (parse_cell, parse_verb):
        with contextlib.suppress(LineError):
            parse(line)


def test_the_help_names_every_verb_and_option():
    assert all(f"  {verb}" in LINE_USAGE for verb in Verb)
    assert all(re.search(rf"^  (-\w, )?{option}\b", CELL_USAGE, re.MULTILINE) for option in CELL_OPTIONS)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("x = 1\n", "# %%remote_gpu\nx = 1\n"),
        ("\n\n  x = 1\n", "  # %%remote_gpu\n\n\n  x = 1\n"),
        ("%%bash\nls", "%%bash\nls"),
        ("\n%%bash\nls", "\n%%bash\nls"),
        ("", "# %%remote_gpu\n"),
    ],
)
def test_the_magics_line_stays_as_a_comment_for_the_line_numbers(body, expected):
    assert numbered("%%remote_gpu", body) == expected
