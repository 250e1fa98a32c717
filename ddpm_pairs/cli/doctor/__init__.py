"""``ddpm-pairs doctor``: report what is installed and found, and how to fix problems.

It imports only the standard library itself, so it works even if torch is broken.
"""

import argparse
import platform
import sys

from ddpm_pairs import __version__, shipped
from ddpm_pairs.cli.doctor.command import check_command
from ddpm_pairs.cli.doctor.files import check_metric_weights, check_shared_memory, check_shipped
from ddpm_pairs.cli.doctor.packages import check_packages
from ddpm_pairs.cli.doctor.precision import check_precision


def main(arguments: argparse.Namespace) -> int:
    """Print the report.

    Args:
        arguments: Unused; the verb has no arguments.

    Returns:
        0 if there is nothing to fix, else 1.
    """
    print(f"ddpm_pairs {__version__} in {shipped.PACKAGE}")
    print(f"Python {platform.python_version()} at {sys.executable}")
    print(f"{platform.platform()}\n", flush=True)
    packages, devices = check_packages()
    sections = {
        "Packages": packages,
        "Devices": [*devices, *check_shared_memory()],
        "Precision of the network": check_precision(all(one.state != "problem" for one in packages)),
        "The command 'lightning'": check_command(),
        "Shipped with the package": check_shipped(),
        "Weights of metrics and losses": check_metric_weights(),
    }
    for title, findings in sections.items():
        print(title)
        for finding in findings:
            print(f"  {finding.state:<8} {finding.text}")
        print()
    mends = [finding.mend for findings in sections.values() for finding in findings if finding.state == "problem"]
    if not mends:
        print("No problems found.")
        return 0
    print("To fix:")
    for mend in dict.fromkeys(mends):
        print(f"  * {mend}")
    return 1
