"""How one machine is shared out among workers: cores, memory and GPUs."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nas.memory import free_gb

# One worker: up to 1.2 GB in its measuring process (seen with the presets up to MA36), the rest for torch and data.
WORKER_GB = 2.0
MOST_WORKERS = 8  # a default, not a limit: --workers asks for more
MOST_THREADS = 4  # a proxy is too small to gain from more


@dataclass(frozen=True)
class Machine:
    cores: int
    memory_gb: float
    gpus: tuple[str, ...] = ()


@dataclass(frozen=True)
class Share:
    """What one worker may use."""

    threads: int
    gpu: str | None = None

    def environment(self) -> dict[str, str]:
        found = {"OMP_NUM_THREADS": str(self.threads), "MKL_NUM_THREADS": str(self.threads)}
        return found if self.gpu is None else found | {"CUDA_VISIBLE_DEVICES": self.gpu}


def default_workers(machine: Machine) -> int:
    """One a GPU where there are any, else one a core; never more than the memory holds."""
    fit = max(1, int(machine.memory_gb // WORKER_GB))
    return min(fit, len(machine.gpus) or min(MOST_WORKERS, machine.cores))


def share(machine: Machine, workers: int) -> list[Share]:
    """An equal part for each worker. Threads add up to the cores at most, unless there are more workers than cores."""
    threads = max(1, min(MOST_THREADS, machine.cores // workers))
    return [Share(threads, machine.gpus[index % len(machine.gpus)] if machine.gpus else None)
            for index in range(workers)]


def too_many(machine: Machine, workers: int) -> str:
    """What is wrong with that many workers here, in one sentence; empty when nothing is."""
    if workers * WORKER_GB > machine.memory_gb:
        return (f"{workers} workers take about {workers * WORKER_GB:.0f} GB, {machine.memory_gb:.0f} GB are free; "
                f"--workers {default_workers(machine)} fits")
    return ""


def this_machine() -> Machine:
    return Machine(_cores(), free_gb(), _gpus(os.environ))


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _gpus(environment: Mapping[str, str]) -> tuple[str, ...]:
    """CUDA devices as CUDA_VISIBLE_DEVICES names them, without importing torch."""
    if (given := environment.get("CUDA_VISIBLE_DEVICES")) is not None:
        names: Sequence[str] = [name.strip() for name in given.split(",") if name.strip()]
        return tuple(name for name in names if name != "-1")
    try:
        found = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(str(index) for index, line in enumerate(line for line in found.splitlines()
                                                         if line.startswith("GPU ")))
