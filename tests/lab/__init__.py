"""A test lab on one machine: real Slurm clusters behind real sshd servers, for pytest and for use by hand.

By hand: ``python -m tests.lab up``. In a test: the fixture `lab` (see ``plugin.py``).
"""

from __future__ import annotations

from tests.lab.lab import Lab
from tests.lab.machines import LabError, Machine
from tests.lab.slurm import Cluster
from tests.lab.sshd import Sshd

__all__ = ["Cluster", "Lab", "LabError", "Machine", "Sshd"]
