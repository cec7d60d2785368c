"""``make fidelity``: fetch, run, compare, say."""

from __future__ import annotations

import argparse
import signal
import sys

from fidelity.session import Options, check, listing


def main() -> int:
    """Exit status 0 when no cell differs without an explanation, else 1."""
    parser = argparse.ArgumentParser(prog="python -m fidelity", description=__doc__)
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="only documents whose name begins with NAME (project/path)"
    )
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="how many documents at a time (default: 2)")
    parser.add_argument(
        "--limit", type=float, default=90, metavar="SECONDS", help="leave out a document whose local run takes longer (default: 90)"
    )
    parser.add_argument("--list", action="store_true", help="only say which documents there are, with their numbers of cells")
    parser.add_argument("--details", action="store_true", help="also show what is not comparable")
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that kernels and gateway end with this process
    options = Options(tuple(chosen.only), chosen.jobs, chosen.limit, chosen.details)
    return listing(options) if chosen.list else check(options)


if __name__ == "__main__":
    sys.exit(main())
