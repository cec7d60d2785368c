"""What the magics say of themselves: the help texts, word for word those of `docs/reference/magics.md`."""

from __future__ import annotations

__all__ = ["CELL_USAGE", "LINE_USAGE"]

CELL_USAGE = """\
%%remote_gpu [--session NAME] [--cluster NAME] [what a new session asks for]
             [-i NAMES] [-o NAMES] [--no-sync] [--files PATHS] [--background [--name NAME]]

Run this cell in a remote session. The first cell starts one, later cells use it again.

  --session NAME       the session to run in; several can be there at once
  --cluster NAME       where to run; otherwise what is chosen in the sidebar, or a fitting cluster
  -i, --input NAMES    send these variables, as in -i a,b; otherwise those that the cell reads
  -o, --output NAMES   bring these variables back, as values; otherwise those that the cell binds
  --no-sync            send and bring back nothing but what -i and -o name
  --files PATHS        send these files and folders first, separated by commas
  --background         return at once with a job; its output keeps coming below this cell
  --name NAME          what the job of a background cell is called
  --help               show this text

What a new session asks for, on each of its nodes; otherwise what the cluster's settings say:

  --gpus N             how many GPUs
  --gpu MODEL          of which model, as %remote_gpu clusters shows it
  --gpu-memory SIZE    with at least this much memory each: 80G, 512M, 1.5T
  --cpus N             how many CPU cores
  --memory SIZE        how much memory
  --time T             for how long: 2h, 90m, 1d12h, or as Slurm has it: 90 (minutes), 1:30:00, 1-12
  --nodes N            how many nodes
  --exclusive          nodes that are shared with nobody
  --partition NAME     where in a Slurm cluster; and in its own words, as for sbatch:
  --account NAME       whose award pays
  --qos NAME           with which quality of service
  --constraint WORDS   on nodes with these features
  --reservation NAME   in this reservation

What matters for where, if the choice is left to the selection (%remote_gpu where shows it):

  --prefer WHAT        soonest (otherwise), cheapest, greenest, nearest, or weights: time=1,cost=0.5
  --only CLUSTERS      one of these, as a,b
  --exclude CLUSTERS   none of these
  --countries CODES    where the data may go, as GB,CA
  --data-class NAME    the class of that data
  --internet           on nodes that reach the internet
  --arch NAME          on processors as x86_64 or aarch64
  --accelerator API    on GPUs that are programmed by cuda, rocm or xpu
  --project NAME       for this project
  --runs T             how long the work takes, as you think
  --fallback           if a cluster refuses, or takes longer than it should, ask the next one instead
  --race N             ask N clusters at once; the first that starts keeps it, the others give it back

The stop button (Ctrl-C) interrupts the cell; pressed again, it leaves the cell running, and
%remote_gpu attach brings its output back. While a session waits in a queue, it ends the waiting
here, and the request stays. %remote_gpu help lists the other commands."""

LINE_USAGE = """\
%remote_gpu VERB

  status [NAME]               this notebook's sessions, and what runs in them
  clusters                    the clusters that you can use
  sessions [--all]            your remote sessions; --all asks the clusters, too, for those started elsewhere
  start [NAME]                start a session now; it may ask for as much as a cell (--gpus N, --time T, …)
  use NAME                    the session, or else the cluster, that following cells run in
  attach [NAME]               bring back the output of a cell that was left running, and follow it
  interrupt [NAME]            interrupt what runs there; its variables stay
  restart [NAME]              a new kernel in the same place; its variables are gone
  stop [NAME]                 end a session and give its GPUs back, or cancel one that waits in a queue
  where [what a new session asks for, and what matters for where]
                              which cluster would be chosen, and what to expect of each
  why [NAME]                  why a session is where it is: the selection in full
  extend [NAME] [--time T]    have a session end later (by an hour, or by T), if its cluster allows it
  logs [NAME] [--lines N]     what the session wrote outside of cells, also after its end
  login [CLUSTER]             log in to a cluster; what it asks is asked here
  logout [CLUSTER]            end the login; sessions go on
  on [--session NAME] [--cluster NAME] [what a new session asks for]
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
