"""What the command line decides for an agent."""

from __future__ import annotations

from pathlib import Path

import msgspec

from meshd.agent.control_plane import ControlPlane
from meshd.agent.fast_path import FastPath
from meshd.agent.on_demand import Settings
from meshd.agent.worker_start import WorkerStart
from meshd.workloads.discovery import Discovery


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """One agent's options."""

    node: str
    instance: str
    control: ControlPlane
    run_dir: Path
    discovery: Discovery
    workers: int
    worker_start: WorkerStart
    metrics_host: str
    metrics_port: int
    access_log: str
    access_log_format: str
    fast_path: FastPath
    demand: Settings
