"""Where should a request run? Pure: the same inputs give the same answer, and each number in it has a unit and a source.

`values` what is asked and answered · `obstacles` the hard rules, in words · `history` earlier waits · `waits` the next one, as a range ·
`terms` start, data, run, cost, carbon and distance · `speeds` how fast GPUs are · `places` ISO's countries · `words` durations and sentences ·
`ranking` puts the candidates in order.
"""

from __future__ import annotations

from jupyter_remote_gpu.selection.history import History, Past
from jupyter_remote_gpu.selection.obstacles import contradictions
from jupyter_remote_gpu.selection.ranking import rank
from jupyter_remote_gpu.selection.values import (
    Basis,
    Candidate,
    Demand,
    Figure,
    InFlight,
    Preference,
    Rules,
    Selection,
    Spread,
    Wait,
)

__all__ = [
    "Basis",
    "Candidate",
    "Demand",
    "Figure",
    "History",
    "InFlight",
    "Past",
    "Preference",
    "Rules",
    "Selection",
    "Spread",
    "Wait",
    "contradictions",
    "rank",
]
