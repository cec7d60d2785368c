# The look at a host that is to become a cluster. It runs in the plain shell that every Unix has, writes no file, and needs nothing: what is not there
# is left out. Its output is parts, each between a line `JRG-LOOK name` and a line `JRG-LOOK = status`, among whatever the host prints by itself.
# `look` takes: a Python to look at first, or ""; "slurm" to ask Slurm, or "". `slurm` is defined by whoever runs this.

me=$(id -un 2>/dev/null || printf '%s' "${USER:-}")
began=$(date +%s)
login=

within() { # seconds, command: as `timeout`, where there is one
  if command -v timeout >/dev/null 2>&1; then timeout "$@"; else shift; "$@"; fi
}

part() { # name, command
  title=$1
  shift
  printf '\nJRG-LOOK %s\n' "$title"
  "$@" </dev/null 2>&1
  last=$?
  printf '\nJRG-LOOK = %s\n' "$last"
}

machine() {
  printf '%s\n' "$(uname -s)" "$(uname -m)" "$(uname -n)" "$me" "$HOME" "${SHELL:-}"
}

login_shell() { # what its start-up files set
  login=$(within 20 bash -lc 'printf "JRG-PATH %s\n" "$PATH"
    for name in SCRATCH PSCRATCH SCRATCHDIR MYSCRATCH WORK; do
      eval "value=\${$name:-}"
      [ -z "$value" ] || printf "JRG-FOLDER %s\n" "$value"
    done' 2>/dev/null)
  status=$?
  printf '%s\n' "$login"
  return $status
}

home() {
  within 5 df -Pk "$HOME" | tail -n 1 | sed 's/^/JRG-DF /'
  within 5 quota -wp 2>/dev/null | tail -n 1 | sed 's/^/JRG-QUOTA /'
}

about_python='
import os, sys
kernel, venv = "", "no"
try:
    from importlib.metadata import version
    kernel = version("ipykernel")
except Exception:
    pass
try:
    import ensurepip
    import venv as _
    venv = "yes"
except Exception:
    pass
numbers = "%d.%d.%d" % sys.version_info[:3]
print("JRG-PYTHON|%s|%s|%s|%s|%s %s" % (sys.argv[1], numbers, kernel, venv, os.path.realpath(sys.executable), sys.prefix))
'

try_python() {
  if ! [ -f "$1" ] || ! [ -x "$1" ] || [ $(($(date +%s) - began)) -gt 40 ]; then return; fi
  within 10 "$1" -B -c "$about_python" "$1" 2>/dev/null
}

pythons() { # one to look at first, or ""
  case $1 in
    '') ;;
    '~/'*) try_python "$HOME/${1#??}" ;;
    */*) try_python "$1" ;;
    *) try_python "$(command -v "$1")" ;;
  esac
  old_ifs=$IFS
  IFS=:
  set -f
  set -- $PATH
  set +f
  IFS=$old_ifs
  for name in python3 python3.14 python3.13 python3.12 python3.11 python3.10 python; do
    for folder; do try_python "$folder/$name"; done
  done
  for folder in "$HOME"/.venv "$HOME"/venv* "$HOME"/env "${VIRTUAL_ENV:-/none}" "${CONDA_PREFIX:-/none}" \
    "$HOME"/miniforge3 "$HOME"/mambaforge "$HOME"/miniconda3 "$HOME"/anaconda3 "$HOME"/micromamba /opt/conda \
    "$HOME"/miniforge3/envs/* "$HOME"/mambaforge/envs/* "$HOME"/miniconda3/envs/* "$HOME"/anaconda3/envs/* \
    "$HOME"/micromamba/envs/* "$HOME"/.conda/envs/* "$HOME"/.local/share/jupyter-remote-gpu/env; do
    try_python "$folder/bin/python"
  done
}

uv_program() {
  for file in "$(command -v uv)" "$HOME/.local/bin/uv" "$HOME/.cargo/bin/uv"; do
    if [ -f "$file" ] && [ -x "$file" ]; then
      printf 'JRG-UV %s\n' "$file"
      return
    fi
  done
}

gpus() {
  if command -v nvidia-smi >/dev/null 2>&1; then
    within 20 nvidia-smi --query-gpu=name,memory.total --format=csv,noheader,nounits | sed 's/^/JRG-CUDA /'
  fi
  if command -v rocm-smi >/dev/null 2>&1; then
    within 20 rocm-smi --showproductname --showmeminfo vram --csv | sed 's/^/JRG-ROCM /'
  fi
  if command -v xpu-smi >/dev/null 2>&1; then
    within 20 xpu-smi discovery --dump 2 | sed 's/^/JRG-XPU /'
  fi
}

scratch() {
  {
    printf '%s\n' "$login" | sed -n 's/^JRG-FOLDER //p'
    printf '%s\n' "${SCRATCH:-}" "${PSCRATCH:-}"
    for base in scratch scratch/users work lustre lustre/scratch; do printf '/%s/%s\n' "$base" "$me"; done
  } | while IFS= read -r folder; do
    if [ -z "$folder" ] || ! [ -d "$folder" ] || ! [ -w "$folder" ]; then continue; fi
    kind=$(within 5 stat -f -c %T "$folder" 2>/dev/null </dev/null)
    free=$(within 5 df -Pk "$folder" 2>/dev/null </dev/null | tail -n 1 | awk '{print $4}')
    inode=$(ls -di "$folder" </dev/null | awk '{print $1}')
    printf 'JRG-FOLDER|%s|%s|%s|%s\n' "$folder" "$kind" "$free" "$inode"
  done
}

internet() { # whether packages can be had
  if command -v curl >/dev/null 2>&1; then
    within 10 curl -sS -I -o /dev/null -m 8 https://pypi.org/simple/pip/
  elif command -v wget >/dev/null 2>&1; then
    within 10 wget -q -T 8 -t 1 --spider https://pypi.org/simple/pip/
  else
    return 127
  fi
}

modules() { # status 3: there is no such command
  found=$(within 20 bash -lc 'type module >/dev/null 2>&1 || exit 3; module -t avail 2>&1')
  status=$?
  printf '%s\n' "$found" | grep -i -E '(^|[/-])(python|miniforge|mambaforge|miniconda|anaconda)[0-9]*(/|$|\()'
  return $status
}

trial() { # sbatch with its options
  echo '#!/bin/sh' | within 25 "$@"
}

look() {
  part machine machine
  part login login_shell
  part home home
  part uv uv_program
  part pythons pythons "$1"
  part gpus gpus
  if [ "$2" = slurm ]; then
    if ! command -v sbatch >/dev/null 2>&1; then
      PATH=$PATH:$(printf '%s\n' "$login" | sed -n 's/^JRG-PATH //p' | tail -n 1)
      part slurm.login command -v sbatch
    fi
    if command -v sbatch >/dev/null 2>&1; then slurm; fi
  fi
  part scratch scratch
  part internet internet
  part modules modules
  part end true
}
