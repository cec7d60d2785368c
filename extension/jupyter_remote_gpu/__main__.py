"""``python -m jupyter_remote_gpu`` is the command ``jupyter remote-gpu``."""

from __future__ import annotations

import sys

from jupyter_remote_gpu.cli import main

if __name__ == "__main__":
    sys.exit(main())
