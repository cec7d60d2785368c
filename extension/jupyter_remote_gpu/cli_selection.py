"""``jupyter remote-gpu where`` and ``why``: what the selection would choose, and why a session is where it is."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import asdict

from jupyter_remote_gpu.cli_output import print_json, say
from remote_gpu.discovery import find_or_start_gateway
from remote_gpu.gateway import Gateway
from remote_gpu.gateway_infos import SelectionInfo
from remote_gpu.resources import OPTIONS, WHERE_OPTIONS, request_of
from remote_gpu.selection_text import told

__all__ = ["add_options", "check", "where", "why"]


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of a cell that say what is asked for and what matters for where."""
    for name in WHERE_OPTIONS:
        option = OPTIONS[name]
        if option.takes_value:
            parser.add_argument(name, dest=name, metavar="X", help=option.needs)
        else:
            parser.add_argument(name, dest=name, action="store_const", const="")


def where(options: argparse.Namespace) -> int:
    """Show what would be chosen; nothing is started."""
    request = request_of(_given(vars(options)))
    with Gateway(find_or_start_gateway()) as gateway:
        return _show(gateway.selection(request.json(), request.demand()), as_json=options.json)


def why(options: argparse.Namespace) -> int:
    """Show why a session is where it is."""
    with Gateway(find_or_start_gateway()) as gateway:
        session = gateway.session(options.name)
        if session.decision:
            return _show(gateway.decision(session.decision), as_json=options.json)
    if options.json:
        return print_json({"session": session.id, "sentence": session.why})
    say(session.why)
    return 0


def check(given: Mapping[str, object]) -> str:
    """What is wrong with the options of `where`; "" when nothing is."""
    for name, text in _given(given).items():
        try:
            request_of({name: text})
        except ValueError:
            return f"{name} needs {OPTIONS[name].needs}, not {text!r}."
    return ""


def _given(options: Mapping[str, object]) -> dict[str, str]:
    return {name: str(text) for name, text in options.items() if name in OPTIONS and text is not None}


def _show(selection: SelectionInfo, *, as_json: bool) -> int:
    if as_json:
        print_json(asdict(selection))
    else:
        say(told(selection).rstrip("\n"))
    return 0 if selection.chosen else 1
