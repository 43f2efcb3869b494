#!/usr/bin/env bash
# Joins the shares that slurm-array.sh has left, once all are done; see there. Needs neither the model nor a card.
#
#SBATCH --job-name=depthlens-merge
#SBATCH --cpus-per-task=1
#SBATCH --mem=8G                  # change: more for millions of records
#SBATCH --time=01:00:00           # change
#SBATCH --output=depthlens-merge-%j.log

depthlens=${DEPTHLENS:-depthlens}
# Change: as in slurm-array.sh.
out=${DEPTHLENS_OUT:-results}

exec "$depthlens" merge "$out"/shard-* --out "$out/whole"
