#!/bin/bash
# Install a part of the locked environment into this machine's Python, for infra/docker/Dockerfile.
#
#   install.sh PART TORCH [OPTION ..]
#
#   PART   uv     the installer itself
#          torch  torch and what it brings, 4 GB that seldom change: a layer of its own
#          rest   everything else that pyproject.toml asks for, without the tools for development
#   TORCH  cuda   the wheels of the lock; they run on CPUs too
#          cpu    PyTorch's own wheels for CPUs, a tenth of the size, of the lock's versions
#   OPTION is passed on to uv (--dry-run, --target DIR ..); without any it installs into the system's Python
#
# Each download is compared with its SHA-256 in requirements.lock. PyTorch's CPU wheels are other files: they are compared
# with requirements-cpu.lock where there is one (infra/README.md says how to make it), else with nothing.
set -euo pipefail

part=$1 torch=$2
shift 2
options=("$@")
test $# -gt 0 || options=(--system --compile-bytecode)
known=$(mktemp)
trap 'rm -f "$known"' EXIT

# The entries of the lock whose names match, with their hashes.
entries() {
  awk -v names="$1" '/^[^ #]/ { wanted = ($0 ~ "^(" names ")==") } wanted' requirements.lock
}

case $torch in
  cuda)
    cp requirements.lock "$known"
    ;;
  cpu)
    options+=(--torch-backend cpu)
    awk '/^[^ #]/ { torch = /^(torch|torchvision)==/; if (torch) print $1 } !torch' requirements.lock > "$known"
    test ! -e requirements-cpu.lock || cp requirements-cpu.lock "$known"
    ;;
  *)
    echo "install.sh: TORCH must be cuda or cpu, got $torch" >&2
    exit 2
    ;;
esac

case $part in
  uv)
    entries uv > "$known"
    pip install --no-cache-dir --require-hashes --no-deps -r "$known"
    ;;
  torch)
    uv pip install --no-cache "${options[@]}" --constraints "$known" torch torchvision
    ;;
  rest)
    uv pip install --no-cache "${options[@]}" --constraints "$known" -r pyproject.toml
    ;;
  *)
    echo "install.sh: PART must be uv, torch or rest, got $part" >&2
    exit 2
    ;;
esac
