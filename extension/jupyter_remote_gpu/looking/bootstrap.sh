# Makes a Python environment with ipykernel in the user's home folder, or brings the one that is there up to date. Runs after probe.sh, whose functions
# it uses. What it is doing it says on lines `JRG-SAY …`; the rest is what uv and pip say.
# $1: uv or venv. $2: the program, uv or a Python. $3: the version of Python that it must have, "" = any. $4: the one that is best. Then the packages.

export UV_NATIVE_TLS=1 UV_SYSTEM_CERTS=1 # the certificates of the site, under the old name and the new one

folder=$HOME/.local/share/jupyter-remote-gpu/env

say() {
  printf 'JRG-SAY %s\n' "$*"
}

is_sound() { # the environment runs, and is of the wanted version
  "$folder/bin/python" -B -c 'import sys; sys.exit(sys.argv[1] not in ("", "%d.%d" % sys.version_info[:2]))' "$1" 2>/dev/null
}

make_environment() { # tool, program, version, the best version
  if is_sound "$3"; then
    say "There is an environment in $folder already; it is brought up to date."
    return
  fi
  say "Making an environment in $folder."
  if is_sound ''; then mv "$folder" "$folder.old"; else rm -rf "$folder"; fi
  mkdir -p "${folder%/*}" || return
  case $1 in
    uv)
      "$2" venv --seed --python "${3:-$4}" "$folder" && return
      [ -z "$3" ] && "$2" venv --seed --python '>=3.10' "$folder" # one that is there: the best one has to be fetched
      ;;
    *) "$2" -m venv "$folder" ;;
  esac
}

install_packages() { # tool, program, packages
  tool=$1
  uv=$2
  shift 2
  say "Installing $*."
  case $tool in
    uv) "$uv" pip install --python "$folder/bin/python" "$@" ;;
    *) PIP_USER=0 "$folder/bin/python" -m pip install --disable-pip-version-check --no-input --progress-bar off "$@" ;;
  esac
}

put_back() { # an environment that was to be replaced, and was not
  if [ -d "$folder.old" ]; then
    rm -rf "$folder"
    mv "$folder.old" "$folder"
  fi
}

bootstrap() {
  tool=$1
  program=$2
  put_back
  part make make_environment "$tool" "$program" "$3" "$4"
  shift 4
  [ "$last" -ne 0 ] || part install install_packages "$tool" "$program" "$@"
  if [ "$last" -ne 0 ]; then
    put_back
    return
  fi
  rm -rf "$folder.old"
  began=$(date +%s)
  part pythons try_python "$folder/bin/python"
  part end true
}
