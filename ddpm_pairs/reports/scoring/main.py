"""``ddpm-pairs score``: compare a folder of images with a folder of references, without any model."""

from argparse import Namespace

import torch

from ddpm_pairs.errors import UserError
from ddpm_pairs.files import check_writable
from ddpm_pairs.reports.scoring.compute import score_folders
from ddpm_pairs.reports.scoring.output import print_scores, write_scores


def main(arguments: Namespace) -> int:
    """Run ``ddpm-pairs score RESULT REFERENCE``.

    Args:
        arguments: ``result``, ``reference``, ``output_dir``, ``metrics`` and ``patch`` of the command line.

    Returns:
        0.

    Raises:
        UserError: If a folder or an option is unusable, or the weights of a metric are missing.
    """
    root = arguments.output_dir
    if root.exists() and not root.is_dir():
        raise UserError(f"--output_dir: got the file {root}; expected a folder or a new name")
    check_writable(root)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    scores = score_folders(arguments.result, arguments.reference, arguments.metrics.split(","), arguments.patch, device)
    write_scores(root, scores)
    print_scores(scores, root)
    return 0
