#!/bin/bash
# Make an S3 bucket the remote of this project's DVC cache, checked on every download.
#
#   infra/dvc/remote.sh s3://bucket/prefix [ENDPOINT_URL]
#
# `verify true`: DVC hashes what it downloads. Without, it takes a remote's word that an object is what its name says, and
# whoever may write to the bucket could exchange a model or the network that FID is measured with.
# The address is written to .dvc/config, to be committed. Keys are not: they come from the environment (AWS_ACCESS_KEY_ID,
# AWS_SECRET_ACCESS_KEY, AWS_PROFILE) or the machine's role. Then: dvc push, and on another machine dvc pull.
set -euo pipefail

[[ ${1:-} == s3://?* ]] || { echo "usage: remote.sh s3://bucket/prefix [ENDPOINT_URL]" >&2; exit 2; }
dvc remote add --quiet --force --default store "$1"
dvc remote modify store verify true
if [ -n "${2:-}" ]; then
  dvc remote modify store endpointurl "$2"
fi
echo "dvc push and dvc pull use $1"
