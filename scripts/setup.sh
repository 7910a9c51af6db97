#!/usr/bin/env bash
# Prints the bin directory of a Python that has what this project needs; says on stderr what it does.
# usage: scripts/setup.sh [dev]     dev: the tools for tests and checks as well
#
# An active conda or virtual environment that has the dependencies is used as it is. Else .venv is
# made from requirements.lock, with uv where there is one (much faster), or with pip. Its stamp is
# written last and names the lock, so an interrupted or outdated set-up is done again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
extra=${1:-}
stamp=.venv/.bnorder-lock
begun=.venv/.bnorder-begun

say() { printf '%s\n' "$*" >&2; }
fail() { say "error: $*"; exit 2; }

lacking() { # what an environment's Python lacks of pyproject.toml, in words; nothing: it has all
  "$1" scripts/lacking.py ${extra:+"$extra"} 2>/dev/null || echo "a Python from 3.11 to 3.13 that runs"
}

active() { # the active environment's bin directory, if it will do
  local root missing
  for root in "${VIRTUAL_ENV:-}" "${CONDA_PREFIX:-}"; do
    [ -n "$root" ] && [ -x "$root/bin/python" ] || continue
    [ "$root" -ef .venv ] && continue # ours: the stamp decides
    missing=$(lacking "$root/bin/python")
    if [ -z "$missing" ]; then echo "$root/bin"; return; fi
    say "The active environment $root lacks $missing; using .venv instead."
  done
}

lock_digest() { # of the lock and of nothing else; any Python will do
  "$1" -c 'import hashlib, pathlib
print(hashlib.sha256(pathlib.Path("requirements.lock").read_bytes()).hexdigest())'
}

find_python() { # a Python that can make the environment
  local name
  for name in python3 python3.13 python3.12 python3.11 python; do
    if "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' >/dev/null 2>&1; then
      "$name" -c 'import sys; print(sys.executable)'
      return
    fi
  done
}

install() { # makes .venv from the lock
  local python uv quiet
  python=$(find_python)
  uv=$(command -v uv || true)
  if [ -z "$python" ] && [ -z "$uv" ]; then
    fail "no Python from 3.11 to 3.13 on PATH ($(python3 --version 2>&1 || true)); install one," \
      "or: conda env create -f environment.yml && conda activate bnorder"
  fi
  if [ -z "$uv" ] && ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    fail "$python cannot make virtual environments; install its venv module" \
      "(Debian, Ubuntu: sudo apt-get install python3-venv)"
  fi
  say "Setting up .venv from requirements.lock with $([ -n "$uv" ] && echo uv || echo pip) (once; 6.5 GB, minutes) ..."
  [ -t 2 ] && quiet="" || quiet=1 # at a terminal a person sees the downloads
  rm -rf .venv && mkdir .venv && : > "$begun"
  if [ -n "$uv" ]; then
    "$uv" venv ${quiet:+--quiet} --allow-existing --python "${python:-3.12}" .venv >&2
    "$uv" pip sync ${quiet:+--quiet} --require-hashes --python .venv/bin/python requirements.lock >&2
  else
    "$python" -m venv .venv >&2
    .venv/bin/python -m pip install ${quiet:+-qq} --disable-pip-version-check \
      --require-hashes -r requirements.lock >&2
  fi
  lock_digest .venv/bin/python > "$stamp"
  say "Set-up done; delete .venv to undo it."
}

alone() { # be the only set-up here until this process ends, where there is flock
  command -v flock >/dev/null || return 0
  exec 9>.venv.lock
  flock -n 9 && return
  say "Another command is setting up .venv; waiting for it ..."
  flock 9 || true # a file system without locks
}

ready() { # is .venv the one that the lock describes?
  [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$(lock_digest .venv/bin/python 2>/dev/null)" ]
}

bin=$(active)
if [ -z "$bin" ]; then
  ready || alone
  if ! ready; then
    if [ -e .venv ] && [ ! -e "$stamp" ] && [ ! -e "$begun" ]; then
      extra=dev
      missing=$(lacking .venv/bin/python)
      [ -z "$missing" ] || fail ".venv was not made by this Makefile and lacks $missing;" \
        "move it away, and the next call makes a new one"
    else
      install
    fi
  fi
  bin=$PWD/.venv/bin
fi
echo "$bin"
