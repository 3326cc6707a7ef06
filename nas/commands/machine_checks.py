"""Looks at the machine and says in one line each what a search would meet."""

from __future__ import annotations

import platform
import shutil
import tempfile
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from nas.workers.resources import WORKER_GB, Machine, default_workers, share, this_machine

NEEDED = ("torch", "optuna", "numpy", "scikit-learn", "pandas", "plotly")
OPTIONAL = {"timm": "to export to timm", "coremltools": "to convert to Core ML", "streamlit": "for the dashboard",
            "lightning-fabric": "to train: pip install 'fastvit-explorer[train]'",
            "psycopg": "for --storage postgresql://: pip install 'fastvit-explorer[storage]'",
            "pymysql": "for --storage mysql://: pip install 'fastvit-explorer[storage]'",
            "grpcio": "for --storage grpc://: pip install 'fastvit-explorer[storage]'"}
FREE_DISK_GB = 2.0


@dataclass(frozen=True)
class Check:
    """`needed`: the main job cannot run without it. `advice`: what to do, where there is something to do."""

    name: str
    ok: bool
    found: str
    needed: bool = True
    advice: str = ""


def examine(device: str) -> list[Check]:
    """Every check, for a search on `device` that is started in this folder."""
    from nas.files import cache_folder

    machine = this_machine()
    return [*_python(), *_packages(), *_machine(machine), _folder("runs", Path.cwd()),
            _folder("cache", cache_folder), *_devices(device)]


def _python() -> list[Check]:
    major, minor, _ = platform.python_version_tuple()
    fine = (3, 11) <= (int(major), int(minor)) < (3, 14)
    return [Check("python", fine, platform.python_version(), advice="" if fine else "install Python 3.11 to 3.13")]


def _packages() -> list[Check]:
    checks = []
    for name in (*NEEDED, *OPTIONAL):
        try:
            found, there = version(name), True
        except PackageNotFoundError:
            found, there = "not installed", False
        advice = "" if there else OPTIONAL.get(name, "pip install -e .")
        checks.append(Check(name, there, found, name in NEEDED, advice))
    return checks


def _machine(machine: Machine) -> list[Check]:
    workers = default_workers(machine)
    threads = share(machine, workers)[0].threads
    fits = machine.memory_gb >= WORKER_GB
    return [
        Check("cores", True, f"{machine.cores}, for {workers} workers of {threads} torch threads"),
        Check("memory", fits, f"{machine.memory_gb:.1f} GB free", needed=False,
              advice="" if fits else f"a worker takes about {WORKER_GB:g} GB; close something or use --workers 1"),
        Check("gpus", bool(machine.gpus), f"{len(machine.gpus)} visible", needed=False,
              advice="" if machine.gpus else "none is needed: proxies train on the CPU")]


def _folder(name: str, folder: object) -> Check:
    """Whether a folder can be written and has room."""
    try:
        path = folder() if callable(folder) else Path(str(folder))
        with tempfile.TemporaryFile(dir=path) as file:
            file.write(b"0" * 4096)
        free = shutil.disk_usage(path).free / 2**30
    except OSError as error:
        where = error.filename or folder
        advice = "set FASTVIT_EXPLORER_CACHE to another folder" if name == "cache" else "start elsewhere, or name --run"
        return Check(f"{name} folder", False, f"{where}: {error.strerror}", advice=advice)
    fine = free >= FREE_DISK_GB
    return Check(f"{name} folder", fine, f"{path}, {free:.0f} GB free",
                 advice="" if fine else f"free some space: a run and its cache want {FREE_DISK_GB:g} GB")


def _devices(chosen: str) -> list[Check]:
    from nas.latency.devices import devices

    return [Check(f"device {device.name}", device.usable, device.version if device.usable else device.needs,
                  needed=device.name == chosen) for device in devices()]
