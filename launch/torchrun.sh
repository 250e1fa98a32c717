#!/usr/bin/env bash
# Run a verb of ddpm-pairs with torchrun on all GPUs of one or several nodes.
#
#   one node        launch/torchrun.sh predict --config pairs.yaml --ckpt_path DDPM --data.hq_dir HQ/ --output_dir pairs/
#   several nodes   run this on every node, each with its own NODE_RANK, within ten minutes of each other:
#                   NNODES=4 NODE_RANK=0 MASTER_ADDR=node0 launch/torchrun.sh predict ...
#
# HQ, checkpoint and output folder must be on a disk that all nodes share. Environment variables:
#   NNODES       number of nodes (default: 1)
#   NODE_RANK    number of this node, from 0
#   MASTER_ADDR  name or address of node 0, and
#   MASTER_PORT  a free port of node 0 (default: 29500)
#   GPUS         processes per node (default: the number of GPUs that torch sees, or 1)
# Options you type override those set here. If a process dies, all stop; rerun to resume (fit: add --ckpt_path last).
set -euo pipefail

if (($# == 0)); then
    sed -n '2,15s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
verb=$1
shift

nodes=${NNODES:-1}
gpus=${GPUS:-$(python -c 'import torch; print(max(1, torch.cuda.device_count()))')}
if ((nodes == 1)); then
    rendezvous=(--standalone)
else
    : "${NODE_RANK:?is not set; give this node its number, from 0 to $((nodes - 1))}"
    : "${MASTER_ADDR:?is not set; give the name or address of node 0}"
    rendezvous=(--node_rank "$NODE_RANK" --master_addr "$MASTER_ADDR" --master_port "${MASTER_PORT:-29500}")
fi

exec python -m torch.distributed.run --nnodes "$nodes" --nproc_per_node "$gpus" "${rendezvous[@]}" \
    -m ddpm_pairs "$verb" --trainer.strategy ddp --trainer.num_nodes "$nodes" --trainer.devices "$gpus" "$@"
