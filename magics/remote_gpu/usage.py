"""What the magics say of themselves: the help texts, word for word those of `docs/reference/magics.md`."""

from __future__ import annotations

__all__ = ["CELL_USAGE", "LINE_USAGE"]

CELL_USAGE = """\
%%remote_gpu [--session NAME] [--cluster NAME] [--gpus N]
             [-i NAMES] [-o NAMES] [--no-sync] [--files PATHS] [--background [--name NAME]]

Run this cell in a remote session. The first cell starts one, later cells use it again.

  --session NAME       the session to run in; several can be there at once
  --cluster NAME       where to run; otherwise what is chosen in the sidebar, or a fitting cluster
  --gpus N             how many GPUs a new session asks for
  -i, --input NAMES    send these variables, as in -i a,b; otherwise those that the cell reads
  -o, --output NAMES   bring these variables back, as values; otherwise those that the cell binds
  --no-sync            send and bring back nothing but what -i and -o name
  --files PATHS        send these files and folders first, separated by commas
  --background         return at once with a job; its output keeps coming below this cell
  --name NAME          what the job of a background cell is called
  --help               show this text

The stop button (Ctrl-C) interrupts the cell; pressed again, it leaves the cell running, and
%remote_gpu attach brings its output back. %remote_gpu help lists the other commands."""

LINE_USAGE = """\
%remote_gpu VERB

  status [NAME]               this notebook's sessions, and what runs in them
  clusters                    the clusters that you can use
  sessions                    your remote sessions
  start [NAME]                start a session now (--cluster NAME, --gpus N)
  use NAME                    the session, or else the cluster, that following cells run in
  attach [NAME]               bring back the output of a cell that was left running, and follow it
  interrupt [NAME]            interrupt what runs there; its variables stay
  restart [NAME]              a new kernel in the same place; its variables are gone
  stop [NAME]                 end a session and give its GPUs back
  logs [NAME] [--lines N]     what the session wrote outside of cells
  on [--session NAME] [--cluster NAME] [--gpus N]
                              run all following cells remotely; %%local runs one here
  off                         run following cells here again
  push VARIABLES              send variables to a session
  pull VARIABLES              bring variables of a session here, as values
  vars [NAME]                 the variables on both sides: type, shape, size, and where they are
  put PATH [DESTINATION]      send a file or a folder
  get PATH [DESTINATION]      bring a file or a folder here
  queue [NAME]                the background cells that run and wait
  cancel JOB                  cancel a background cell
  help                        show this text

NAME is a session's name or id; --session NAME says the same. Without one, this notebook's session is meant.
push, pull, put, get and cancel take --session NAME. %%remote_gpu --help tells about cells."""
