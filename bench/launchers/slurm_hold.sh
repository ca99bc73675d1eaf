#!/bin/sh
# Holds a gang's allocation: salloc runs this on the submit host, and gives the nodes back when it ends.
#
#   slurm_hold.sh NODES LOG_DIR srun ...
#
# srun is ended once every task has started. While it lives, one node that restarts before Slurm has missed it makes srun
# abort the step on all nodes ("step missing and io error"), whatever --no-kill says; without it the others go on.
set -u
nodes=$1 logs=$2
shift 2
setsid "$@" &
launcher=$!
seconds=0
while kill -0 "$launcher" 2>/dev/null && [ "$seconds" -lt 300 ]; do
  [ "$(ls "$logs" | grep -c "\.$SLURM_JOB_ID\.0\.log\$")" -ge "$nodes" ] && break
  sleep 1
  seconds=$((seconds + 1))
done
kill -s KILL -- "-$launcher" 2>/dev/null
wait
while :; do
  if steps=$(squeue --noheader --steps --jobs="$SLURM_JOB_ID" --format=%i); then # a silent controller tells nothing
    printf '%s\n' "$steps" | grep -q '\.[0-9][0-9]*$' || exit 0
  fi
  sleep 2
done
