"""The node's half: what runs beside the kernel, on the machine with the GPUs.

Needs Python 3.10, ipykernel and pyzmq on the node; everything else is the standard library. It is copied there as one
zip file, so nothing in here may need a ``__file__`` on disk. `python -m remote_gpu.node VERB` is its command line.
"""

from __future__ import annotations
