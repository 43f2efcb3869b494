#!/usr/bin/env bash
# One run by several machines under torchrun: the ranks share the work out as they go, and one folder comes out. Copy
# this file, change what is marked, and submit it by sbatch.
#
#SBATCH --job-name=depthlens
#SBATCH --nodes=2                 # change
#SBATCH --ntasks-per-node=1       # one torchrun a machine, which starts the ranks
#SBATCH --cpus-per-task=32        # change: the cores of all ranks of a machine
#SBATCH --mem=128G                # change: every rank holds the model
#SBATCH --time=04:00:00           # change
##SBATCH --gpus-per-node=4        # change: take one # away where the run has --device cuda
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=depthlens-%j.log
#SBATCH --signal=TERM@60

depthlens=${DEPTHLENS:-depthlens}
torchrun=${TORCHRUN:-torchrun}
# Change: ranks of one machine, such as one a card.
ranks_of_a_machine=${DEPTHLENS_RANKS:-4}
# Change: what is run, without --out and --resume.
arguments=(--model EleutherAI/pythia-410m --input corpus.txt --lens logit)
# Change: a folder that all machines see.
out=${DEPTHLENS_OUT:-results}
[[ -z ${DEPTHLENS_ARGUMENTS:-} ]] || read -ra arguments <<<"$DEPTHLENS_ARGUMENTS"

# The first machine hosts the meeting, at a port that other jobs of the same machine do not have.
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$((20000 + SLURM_JOB_ID % 10000))

# The c10d rendezvous is the one that starts the ranks of all machines again when one of them dies.
srun --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" "$torchrun" --no-python --nnodes "$SLURM_JOB_NUM_NODES" \
  --nproc-per-node "$ranks_of_a_machine" --max-restarts 3 \
  --rdzv-backend c10d --rdzv-id "$SLURM_JOB_ID" --rdzv-endpoint "$first:$port" \
  "$depthlens" analyze "${arguments[@]}" --resume --out "$out"
status=$?

# torchrun ends by 1 whatever its ranks end by. In the last two minutes of its time the job was told to save, since Slurm
# may send the signal a minute early: it puts itself in the queue again. Any other failure would only repeat itself.
remaining=$(squeue --noheader --jobs "$SLURM_JOB_ID" --format %L)
[[ $status -eq 0 || ! $remaining =~ ^([01]:..|2:00|INVALID)$ ]] || scontrol requeue "$SLURM_JOB_ID"
exit "$status"
