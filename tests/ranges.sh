#!/usr/bin/env bash
# Quick tests at the ends of the ranges that pyproject.toml states: the lowest torch, and newer
# Pythons that are installed here. Arguments: what pytest runs.
set -euo pipefail
cd "$(dirname "$0")/.."
lowest=$(grep -oP '"torch>=\K[0-9.]+' pyproject.toml)
pinned=$(grep -oP '^torch==\K.+' constraints.txt)

try() { # PYTHON, version of torch, what pytest runs
    venv=$(mktemp -d)
    trap 'rm -rf "$venv"' EXIT
    echo "== $("$1" --version), torch $2"
    "$1" -m venv "$venv"
    # Another torch pins other versions of these.
    grep -vE '^(torch|sympy|triton|nvidia-.*|cuda-.*)==' constraints.txt >"$venv/constraints.txt"
    "$venv/bin/python" -m pip install --quiet ${PIP_ARGS:-} -c "$venv/constraints.txt" "torch==$2" -e '.[dev]'
    "$venv/bin/python" -m pytest "${@:3}"
    rm -rf "$venv"
}

try "${PYTHON:-python3}" "$lowest.0" "$@"
for minor in 12 13; do
    for python in "python3.$minor" "${PYENV_ROOT:-$HOME/.pyenv}/versions/3.$minor".*/bin/python; do
        if "$python" -c '' 2>/dev/null; then
            try "$python" "$pinned" "$@"
            continue 2
        fi
    done
    echo "== Python 3.$minor is not installed here and was not tried"
done
