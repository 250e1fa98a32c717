"""Reads the file of an offline W&B run back: a LevelDB log of protobuf records behind a header of its own."""

import json
import struct
import zlib
from pathlib import Path

import wandb
from wandb.proto import wandb_internal_pb2

BLOCK, HEADER = 32768, 7
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def chunks(data):
    """The log's records as bytes; each piece's checksum is verified."""
    assert data[:4] == b":W&B"
    place, parts = HEADER, []
    while place + HEADER <= len(data):
        if BLOCK - place % BLOCK < HEADER:  # a header never lies across two blocks
            place += BLOCK - place % BLOCK
            continue
        checksum, length, kind = struct.unpack("<IHB", data[place : place + HEADER])
        piece = data[place + HEADER : place + HEADER + length]
        assert zlib.crc32(piece, zlib.crc32(bytes([kind]))) == checksum
        assert (kind in (FULL, FIRST)) == (not parts)
        parts.append(piece)
        place += HEADER + length
        if kind in (FULL, LAST):
            yield b"".join(parts)
            parts = []


class LoggedRun:
    """What one offline run holds.

    Attributes:
        id: The run's id.
        name: What it is called.
        config: Its config.
        rows: The history, a dict a row.
        summary: The last value under each name.
        metrics: Horizontal axis by metric, where one was defined.
        exit_code: How it ended.
    """

    def __init__(self, folder):
        (path,) = Path(folder).glob("*.wandb")
        self.folder = path.parent
        self.config, self.rows, self.summary, self.metrics = {}, [], {}, {}
        for data in chunks(path.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            self._take(record)

    def _take(self, record):
        match record.WhichOneof("record_type"):
            case "run":
                self.id, self.name = record.run.run_id, record.run.display_name
                put(record.run.config.update, self.config)
            case "config":
                put(record.config.update, self.config)
            case "history":
                self.rows.append({})
                put(record.history.item, self.rows[-1])
                put(record.history.item, self.summary)
            case "summary":
                put(record.summary.update, self.summary)
            case "metric":
                self.metrics[record.metric.name or record.metric.glob_name] = record.metric.step_metric
            case "exit":
                self.exit_code = record.exit.exit_code

    def values(self, name):
        """All values of a metric by the step of training."""
        return {row["trainer/global_step"]: row[name] for row in self.rows if name in row}

    def media(self, name):
        """Files of what was logged last under a name: a table's content, or a picture's path."""
        logged = self.summary[name]
        logged = logged if "path" in logged else {"path": logged["filenames"][-1]}
        path = self.folder / "files" / logged["path"]
        return json.loads(path.read_text()) if path.suffix == ".json" else path


def put(items, place):
    """Write the items of a record into a dict of dicts."""
    for item in items:
        *outer, name = item.nested_key or [item.key]
        inner = place
        for one in outer:
            inner = inner.setdefault(one, {})
        inner[name] = json.loads(item.value_json)


def logged_runs(output_dir):
    """The offline runs below a run's folder, the oldest first."""
    wandb.teardown()  # which waits until the last of them is written
    folders = Path(output_dir, "wandb").glob("offline-run-*")
    return [LoggedRun(folder) for folder in sorted(folders, key=lambda one: one.stat().st_mtime_ns)]
