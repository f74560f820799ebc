#!/bin/bash
# Lay the image's code out in a folder that all machines of a cluster see, and leave what runs have left there.
#
#   lay-out.sh PROJECT [CODE]      CODE is the folder this script came with, if none is named
#
# PARAMS, where it names a file, becomes params.yaml. results/, .state/, data/ and dvc.lock are kept.
set -euo pipefail

project=$1
code=${2:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)}
mkdir -p "$project/.dvc" "$project/data"
rm -rf "$project/diffusion" "$project/pipelines" # a module of an older image would count as code of the run
cp -R "$code/diffusion" "$code/pipelines" "$code/presets" "$code/infra" "$project/"
cp "$code/.dvcignore" "$code/dvc.yaml" "$code/params.yaml" "$code/pyproject.toml" "$project/"
cp "$code/.dvc/config" "$project/.dvc/"
cp "$code/data/README.md" "$project/data/"
if [ -n "${PARAMS:-}" ] && [ -f "$PARAMS" ]; then
  cp "$PARAMS" "$project/params.yaml"
fi
# There is no git repository here: which code it is says the image.
if [ ! -e "$project/.git" ]; then
  (cd "$project" && dvc config -q --local core.no_scm true)
fi
