#!/bin/bash
# A run of $kind on nodes of the campaign $campaign, written by petaseal. Submit it with sbatch, then import what it prints.
#SBATCH --job-name=petaseal-$kind
#SBATCH --nodes=$nodes
#SBATCH --nodelist=$nodelist
#SBATCH --ntasks=$ranks
#SBATCH --ntasks-per-node=$ranks_per_node
#SBATCH --cpus-per-task=$threads
#SBATCH --exclusive
#SBATCH --time=$minutes
#SBATCH --output=/dev/null
$more
set -euo pipefail
cd -- $folder
exec >job.log 2>&1

# HPCC appends to an output that is there, and two runs in one file are hard to tell apart.
if [ -e $output ]; then
  echo "$output is there already: move it away"
  exit 2
fi

# What would emulate FP64 or reduce its precision, and what was chosen for another machine's BLAS.
unset $unset
export OMP_NUM_THREADS=$threads OPENBLAS_NUM_THREADS=$threads MKL_NUM_THREADS=$threads
export OMP_PROC_BIND=close OMP_PLACES=cores

# Both tools read their input from the folder that they are started in.
$launch
