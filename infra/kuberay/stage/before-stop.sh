#!/bin/bash
# What a pod of a stage's cluster does before it ends (preStop in stage.yaml). Kubernetes ends head and workers at the same
# moment, and a training needs its workers to save: the head asks the stage to save and stop, and all wait until it has.
# The image has no pgrep.
set -euo pipefail

stage='^[^ ]*python[^ ]* -m pipelines\.'
training='^ray::(TrainController|RayTrainWorker)' # others may stay for good, such as Ray's counter of machines

# The numbers of the processes whose command line matches, the oldest first.
processes() {
  for file in /proc/[0-9]*/cmdline; do
    { tr '\0' ' ' < "$file" | grep -qE "$1" && basename "${file%/cmdline}"; } 2> /dev/null || true
  done | sort -n
}

first=$(processes "$stage" | head -n 1) # it has started the others
test -z "$first" || kill -TERM "$first"
while [ -n "$(processes "$stage|$training")" ]; do
  sleep 1
done
