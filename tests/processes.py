"""Commands that run at the same time, as on several nodes, and what they leave in a pairs folder."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]


def free_port():
    """Of those that Lightning takes for a SLURM job: 15000 and the last four digits of its number."""
    for port in range(15000, 25000):
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port
    raise OSError("no port is free")


def children(process):
    """Numbers of the processes that a process started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if path.read_text().rpartition(")")[2].split()[1] == str(process.pid):
                found.append(int(path.parent.name))
    return found


def _end(process):
    """With those that it started, which a launcher that is killed would leave."""
    for number in (*children(process), process.pid) if process.poll() is None else ():
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)


@contextlib.contextmanager
def started(commands, folder):
    """Commands that run at the same time, each in a folder and an environment; ended at the latest with the block."""
    with contextlib.ExitStack() as stack:
        processes = []
        for number, (command, environment) in enumerate(commands):
            log = stack.enter_context((folder / f"{number}.log").open("w"))
            process = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
            stack.callback(_end, process)
            processes.append(process)
        yield processes


def watch(processes, folder, until=lambda seen: False, seconds=900):
    """Which parts of manifests a pairs folder was seen to have, with their bytes, while processes ran."""
    seen, end = {}, time.monotonic() + seconds
    while any(process.poll() is None for process in processes) and time.monotonic() < end and not until(seen):
        for path in folder.glob("manifest.rank*.jsonl"):
            with contextlib.suppress(FileNotFoundError):
                seen[path.name] = path.stat().st_size
        time.sleep(0.01)
    return seen


def run(commands, folder, out, seconds=900):
    """Run commands to their good ends; the ranks that made pairs while they ran."""
    with started(commands, folder) as processes:
        seen = watch(processes, folder / out, seconds=seconds)
        statuses = [process.poll() for process in processes]
    said = "".join((folder / f"{number}.log").read_text() for number in range(len(commands)))
    assert statuses == [0] * len(commands), said
    return {name for name, size in seen.items() if size}


def content(root):
    """All files with their bytes, without what may differ between equal runs."""
    paths = (path for path in root.rglob("*") if path.is_file())
    files = {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}
    return {name: data for name, data in files.items() if name not in ("run.yaml", "contact_sheet.png")}


def launchers(verb, words, environment, out):
    """What is typed on two nodes for torchrun."""
    nodes = {**environment, "NNODES": "2", "GPUS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    command = ["bash", str(ROOT / "launch" / "torchrun.sh"), verb, *words, "--output_dir", out]
    return [(command, {**nodes, "NODE_RANK": str(rank)}) for rank in range(2)]
