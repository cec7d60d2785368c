"""The words of ``jupyter remote-gpu``: its verbs and their options, and the nearest word for one that is not known."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from jupyter_remote_gpu import __version__
from jupyter_remote_gpu.cli_selection import add_options, check
from remote_gpu.resources import parse_time

__all__ = ["Parser", "check_together", "given", "make_parser", "suggestion"]


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` whose errors suggest the word that was probably meant."""

    def error(self, message: str) -> NoReturn:
        """End with exit status 2."""
        self.print_usage(sys.stderr)
        self.exit(2, f"{self.prog}: {message}\n")

    def check(self, words: Iterable[str]) -> None:
        """Refuse the words that nothing understood."""
        for word in words:
            known = [option for option in self._option_string_actions if option.startswith("--")]
            self.error(f"unknown option or word {word!r}.{suggestion(word.partition('=')[0], known)}")


def suggestion(word: str, known: Iterable[str]) -> str:
    """A question after the nearest of the known words; "" when none is near."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""


def check_together(verbs: Mapping[str, Parser], name: str, options: argparse.Namespace) -> None:
    """Refuse options that do not go together, with exit status 2."""
    if name == "stop" and bool(options.names) == options.all:
        verbs[name].error("name the sessions to stop, or say --all.")
    if name == "where" and (wrong := check(vars(options))):
        verbs[name].error(wrong)
    if name == "clusters add" and not options.ssh:
        verbs[name].error("name the host: --ssh HOST.")
    if name == "clusters bootstrap" and (options.name is None) == (options.ssh is None):
        verbs[name].error("name a cluster of yours, or else a host: --ssh HOST.")
    if name == "clusters bootstrap" and options.name is not None and options.prologue:
        verbs[name].error("--prologue is for a host; a cluster has its own.")


def make_parser() -> tuple[Parser, dict[str, Parser]]:
    """(the parser, those of the verbs by their names; a verb of two words, ``clusters add``, by both)."""
    parser = Parser(prog="jupyter remote-gpu", description="Remote GPU sessions of your notebooks.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"jupyter-remote-gpu {__version__}")
    verbs = _Verbs(parser)
    _of_clusters(verbs)
    _of_logins(verbs)
    _of_sessions(verbs)
    _of_selections(verbs)
    _of_gateways(verbs)
    return parser, verbs.made


class _Verbs:
    def __init__(self, parser: Parser) -> None:
        self.made: dict[str, Parser] = {}
        self._below = {"": parser.add_subparsers(dest="verb", metavar="VERB", title="verbs", parser_class=Parser)}

    def add(self, name: str, text: str, *, machine: bool = True) -> Parser:
        first, _, second = name.rpartition(" ")
        if first and first not in self._below:
            self._below[first] = self.made[first].add_subparsers(dest="action", metavar="VERB", title="verbs", parser_class=Parser)
        made: Parser = self._below[first].add_parser(second, help=text, description=text, allow_abbrev=False)
        if machine:  # the word before may have it as well, which then counts
            made.add_argument("--json", action="store_true", default=argparse.SUPPRESS if first else False, help="print JSON")
        self.made[name] = made
        return made


def _of_clusters(verbs: _Verbs) -> None:
    verbs.add("clusters", "List the clusters and their free GPUs; or add, look at, test, show, remove one, or make a Python there.")
    add = verbs.add("clusters add", "Make a cluster of a host: look at it, propose a configuration, test that, and write it down.")
    add.add_argument("name", metavar="NAME", help="what the cluster is to be called")
    add.add_argument("--ssh", metavar="HOST", help="a host as your ssh knows it: a name of ~/.ssh/config, or user@host")
    _configuration(add)
    add.add_argument("--no-test", action="store_true", help="write it down without a test cell")
    add.add_argument("--yes", action="store_true", help="take the proposal without being asked")
    look = verbs.add("clusters look", "Look at a host and propose a configuration; nothing is written or started.")
    look.add_argument("host", metavar="HOST", help="as your ssh knows it")
    _configuration(look)
    test = verbs.add("clusters test", "Run one small cell on a cluster, and say how long each step took.")
    test.add_argument("name", metavar="NAME", help="a cluster")
    test.add_argument("--wait", type=_time, metavar="T", help="how long it may wait in a queue: 10m, 2h (10m)")
    verbs.add("clusters show", "Show how a cluster is configured.").add_argument("name", metavar="NAME", help="a cluster")
    verbs.add("clusters remove", "Remove one of your clusters.").add_argument("name", metavar="NAME", help="a cluster")
    _bootstrap(verbs.add("clusters bootstrap", "Make a Python with ipykernel on a cluster, have the cluster use it, and test that."))


def _configuration(parser: Parser) -> None:
    parser.add_argument(
        "--slurm", action=argparse.BooleanOptionalAction, help="whether sessions are jobs of Slurm (yes, where there is one)"
    )
    parser.add_argument("--python", metavar="P", help="the Python that sessions run in; it needs ipykernel")
    parser.add_argument(
        "--prologue", metavar="LINE", action="append", help="a shell line to run before anything else: module load …; may be repeated"
    )
    parser.add_argument("--account", metavar="A", help="the Slurm account that jobs are charged to")
    parser.add_argument("--partition", metavar="P", help="the Slurm partition")
    parser.add_argument("--qos", metavar="Q", help="the Slurm quality of service")
    parser.add_argument("--gpus", metavar="N", type=_count, help="GPUs of a session that asks for none in particular")
    parser.add_argument("--time", metavar="T", type=_time, help="time of such a session: 4h, 90m, 1-12:00:00")
    parser.add_argument(
        "--option", metavar="--X=Y", action="append", help="a further option of sbatch, as --option=--mem-per-gpu=60G; may be repeated"
    )
    parser.add_argument("--scratch", metavar="DIR", help="a folder for large arrays that login and nodes share")


def _bootstrap(parser: Parser) -> None:
    parser.add_argument("name", metavar="NAME", nargs="?", help="a cluster of yours")
    parser.add_argument("--ssh", metavar="HOST", help="or a host that is no cluster yet")
    parser.add_argument("--python", metavar="X.Y", help="the version of Python; otherwise that of this gateway, if it can be had")
    parser.add_argument("--package", metavar="NAME", action="append", help="a further package, as pip knows it; may be repeated")
    parser.add_argument("--prologue", metavar="LINE", action="append", help="with --ssh: a shell line to run before; may be repeated")
    parser.add_argument("--no-test", action="store_true", help="do not run a test cell then")


def _of_logins(verbs: _Verbs) -> None:
    verbs.add("login", "Log in to a cluster or a host; what it asks is asked here.").add_argument("name", metavar="NAME")
    verbs.add("logout", "Log out: connections end, sessions go on.").add_argument("name", metavar="NAME")


def _of_sessions(verbs: _Verbs) -> None:
    verbs.add("sessions", "List the remote sessions.").add_argument(
        "--all", action="store_true", help="also those that are over, and those that only the clusters know: started elsewhere"
    )
    stop = verbs.add("stop", "End remote sessions: their kernels, allocations and journals.")
    stop.add_argument("names", nargs="*", metavar="NAME", help="a session's name or id")
    stop.add_argument("--all", action="store_true", help="every session")
    extend = verbs.add("extend", "Have a session end later, if its cluster allows it.")
    extend.add_argument("name", metavar="NAME", help="a session's name or id")
    extend.add_argument("--time", metavar="T", type=_time, default=3600, help="by how much: 2h, 90m, 1-12:00:00 (1h)")
    connect = verbs.add("connect", "Make a connection file by which any Jupyter client can use a session, and print its path.")
    connect.add_argument("name", metavar="NAME", help="a session's name or id")
    connect.add_argument("--role", default="editor", choices=("editor", "viewer", "owner"), help="what the client may do (editor)")
    logs = verbs.add("logs", "Show what a session's supervisor and kernel wrote beside their output.")
    logs.add_argument("name", metavar="NAME", help="a session's name or id")
    logs.add_argument("--lines", type=int, default=100, metavar="N", help="the last N lines (100)")


def _of_selections(verbs: _Verbs) -> None:
    add_options(verbs.add("where", "Show which cluster would be chosen, and what to expect of each; nothing is started."))
    why = verbs.add("why", "Show why a session is where it is.")
    why.add_argument("name", metavar="NAME", help="a session's name or id")


def _of_gateways(verbs: _Verbs) -> None:
    verbs.add("doctor", "Check the set-up, and say what to mend.")
    serve = verbs.add("serve", "Run the gateway without a Jupyter server; further options are jupyter_server's.", machine=False)
    serve.add_argument("--background", action="store_true", help="leave it running and return when it is ready")
    serve.add_argument("--timeout", type=float, default=30, metavar="S", help="seconds to wait for it in the background (30)")
    serve.add_argument("--unused", type=float, default=1200, metavar="S", help="end after S seconds without use (1200); 0 = never")
    kernel = verbs.add("kernel", "What a kernelspec names; not for use by hand.", machine=False)
    kernel.add_argument("connection_file")


def _time(text: str) -> int:
    try:
        return parse_time(text)
    except ValueError:
        message = f"{text!r} is no time such as 2h, 90m or 1d12h, or as Slurm has it (90 is minutes; 1:30:00; 1-12)"
        raise argparse.ArgumentTypeError(message) from None


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of GPUs")
    return int(text)


def given(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Those of the options that were given."""
    return {name: value for name in names if (value := getattr(options, name, None)) is not None}
