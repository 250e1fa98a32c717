#!/usr/bin/env bash
# A verb of ddpm-pairs on all GPUs of one node, or of several, through torchrun.
#
#   one node        launch/torchrun.sh predict --config pairs.yaml --ckpt_path DDPM --data.hq_dir HQ/ --output_dir pairs/
#   several nodes   the same on every node, each with its own NODE_RANK, within ten minutes of one another:
#                   NNODES=4 NODE_RANK=0 MASTER_ADDR=node0 launch/torchrun.sh predict ...
#
# HQ, checkpoint and output folder lie on a disk that all nodes share. Read from the environment:
#   NNODES       number of nodes (1)
#   NODE_RANK    this node's number, from 0
#   MASTER_ADDR  name or address of node 0, and
#   MASTER_PORT  a free port there (29500)
#   GPUS         processes a node (one for each GPU that torch sees; 1 where it sees none)
# What is typed counts over what is set here. If a process dies, all end; type the same to go on (fit: --ckpt_path last).
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
    : "${NODE_RANK:?is not set: give this node its number, from 0 to $((nodes - 1))}"
    : "${MASTER_ADDR:?is not set: give the name or address of node 0}"
    rendezvous=(--node_rank "$NODE_RANK" --master_addr "$MASTER_ADDR" --master_port "${MASTER_PORT:-29500}")
fi

exec python -m torch.distributed.run --nnodes "$nodes" --nproc_per_node "$gpus" "${rendezvous[@]}" \
    -m ddpm_pairs "$verb" --trainer.strategy ddp --trainer.num_nodes "$nodes" --trainer.devices "$gpus" "$@"
