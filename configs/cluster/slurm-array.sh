#!/usr/bin/env bash
# One share of a run for each task of a Slurm array. Copy this file and slurm-merge.sh, change what is marked, and:
#
#   array=$(sbatch --parsable slurm-array.sh)
#   sbatch --dependency=afterok:"$array" --kill-on-invalid-dep=yes slurm-merge.sh
#
#SBATCH --job-name=depthlens
#SBATCH --array=0-15              # change: one number a share, without gaps; 0-15%4 runs four at a time
#SBATCH --cpus-per-task=8         # change
#SBATCH --mem=32G                 # change: the model's weights and some gigabytes
#SBATCH --time=04:00:00           # change: a share that needs longer goes on by itself, see below
##SBATCH --gpus-per-task=1        # change: take one # away where the run has --device cuda
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=depthlens-%A_%a.log
# One to two minutes to save before the time is over. Without "B:" Slurm tells the processes that srun has started, once
# each.
#SBATCH --signal=TERM@60

depthlens=${DEPTHLENS:-depthlens}
# Change: what is run, without --out, --shard and --resume. The same for all shares.
arguments=(--model EleutherAI/pythia-410m --input corpus.txt --lens logit)
# Change: a folder that all machines see.
out=${DEPTHLENS_OUT:-results}
[[ -z ${DEPTHLENS_ARGUMENTS:-} ]] || read -ra arguments <<<"$DEPTHLENS_ARGUMENTS"

mkdir -p "$out"
# --resume starts anew where nothing is yet. srun does not know the job's --cpus-per-task unless it is told.
srun --ntasks=1 --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" "$depthlens" analyze "${arguments[@]}" \
  --shard auto --resume --out "$out/shard-$SLURM_ARRAY_TASK_ID"
status=$?

# 130: told to end, and the state is saved. After preemption Slurm puts the task in the queue again itself, and this
# line is not reached; after the time limit's warning, the task does it here. By this name: the job id of the last task is
# that of the whole array.
[[ $status -ne 130 ]] || scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
exit "$status"
