"""Core ML: converts wherever coremltools installs; measures on a Mac, and on an iPhone that is tethered to it.

Not yet run on a Mac: what is below is exercised against a stand-in of coremltools' interface (tests/nas/latency).
"""

from __future__ import annotations

import asyncio
import os
import platform
import sys
import tempfile
import threading
from collections.abc import Coroutine
from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from nas.errors import Failure, NotAvailable
from nas.latency.mlprogram import TARGETS, convert
from nas.latency.network import Network
from nas.latency.onnxruntime import image_batch
from nas.latency.runtime import Session, Setting

# What may run the network beside the CPU; Core ML decides operator by operator.
UNITS = {"all": "ALL", "cpu": "CPU_ONLY", "gpu": "CPU_AND_GPU", "ne": "CPU_AND_NE"}
TEAM = "FASTVIT_EXPLORER_SIGNING_TEAM"
ON_A_MAC = ("needs macOS to measure; here it only converts (on the Mac run `search.py serve-device`, and give its "
            "address as --device http://MAC:PORT)")


def target_of(setting: Setting) -> str:
    return TARGETS[-1] if setting.precision.endswith("ios18") else TARGETS[0]


@lru_cache(maxsize=2)
def package(network: Network, setting: Setting) -> tempfile.TemporaryDirectory[str]:
    """A folder with the network as network.mlpackage; kept, because ModelBench loads it twenty times.

    Raises:
        Failure: coremltools cannot convert the network.
    """
    shape = (setting.batch, 3, setting.resolution, setting.resolution)
    folder = tempfile.TemporaryDirectory()
    try:
        convert(network.module(setting.resolution), shape, target_of(setting)).save(
            str(Path(folder.name) / "network.mlpackage"))
    except Exception as error:
        raise Failure(f"coremltools cannot convert {network.name} at {setting.resolution} px: {error}") from error
    return folder


def package_mb(network: Network, setting: Setting) -> float:
    """Megabytes of the package as it would be shipped."""
    files = Path(package(network, setting).name).rglob("*")
    return sum(path.stat().st_size for path in files if path.is_file()) / 1e6


class CoreMl:
    """`units` names what may run the network: all, cpu, gpu or ne (Neural Engine), each beside the CPU."""

    lock = "coreml"
    precisions: tuple[str, ...] = ("fp16", "fp16-ios18")
    threads = False
    limit_s = 300.0  # the first load compiles for the Neural Engine

    def __init__(self, units: str = "all") -> None:
        self.units = units
        self.name = "coreml" if units == "all" else f"coreml:{units}"

    def missing(self) -> str | None:
        if not find_spec("coremltools"):
            return "needs the package coremltools: pip install coremltools (not on Windows)"
        return None if sys.platform == "darwin" else ON_A_MAC

    def version(self) -> str:
        return f"coremltools {version('coremltools')} macOS {platform.mac_ver()[0]}"

    def prepare(self, network: Network, setting: Setting) -> Session:
        import coremltools as ct

        folder = package(network, setting)
        try:
            model = ct.models.MLModel(str(Path(folder.name) / "network.mlpackage"),
                                      compute_units=getattr(ct.ComputeUnit, UNITS[self.units]))
        except Exception as error:
            raise Failure(f"{self.name} cannot load {network.name}: {error}") from error
        return _Predict(model, {"image": image_batch(setting)})


class _Predict:
    """Times by Core ML's own clock around its predict call: the copies into and out of Python are left out."""

    clock = "wall"

    def __init__(self, model: Any, inputs: dict[str, Any]) -> None:
        self.model, self.inputs = model, inputs

    def block(self, repeats: int) -> float:
        total = 0
        for _ in range(repeats):
            self.model.predict(self.inputs)
            spent = self.model.last_predict_duration_in_nano_seconds
            if spent is None:
                raise Failure("Core ML tells no time for its predict call; it needs coremltools 8.1 or later")
            total += spent
        return total / 1e9


class CoreMlPhone:
    """The iPhone that is connected to this Mac, through coremltools' remote device and Xcode."""

    name = "coreml:iphone"
    lock = "coreml-iphone"
    precisions = CoreMl.precisions
    threads = False
    limit_s = 600.0  # Xcode builds and installs the app that runs the network

    def missing(self) -> str | None:
        if needs := CoreMl().missing():
            return needs
        try:
            _phone()
        except NotAvailable as error:
            return str(error)
        return None

    def version(self) -> str:
        phone = _phone()
        return f"coremltools {version('coremltools')} {phone.name} iOS {phone.os_version}"

    def prepare(self, network: Network, setting: Setting) -> Session:
        import coremltools as ct
        from coremltools.models.ml_program.experimental.perf_utils import MLModelBenchmarker

        path = str(Path(package(network, setting).name) / "network.mlpackage")
        model = ct.models.MLModel(path, skip_model_load=True)  # it is loaded over there
        return _Remote(MLModelBenchmarker(model, _prepared()), {"image": image_batch(setting)})


class _Remote:
    """Each call to the phone is about a second from the next: latencies of single, cold calls."""

    clock = "wall"
    isolated = True

    def __init__(self, benchmarker: Any, inputs: dict[str, Any]) -> None:
        self.benchmarker, self.inputs = benchmarker, inputs

    def block(self, repeats: int) -> float:
        try:
            found = _wait(self.benchmarker.benchmark_predict(self.inputs, iterations=repeats))
        except Exception as error:
            raise Failure(f"coreml:iphone: {error}") from error
        return float(sum(found.samples)) / 1e3


@lru_cache
def _loop() -> asyncio.AbstractEventLoop:
    """The one loop of all calls to the phone, in a thread of its own: whoever asks may run a loop already."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True, name="coreml:iphone").start()
    return loop


def _wait(call: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run_coroutine_threadsafe(call, _loop()).result()


@lru_cache
def _phone() -> Any:
    """The first connected iPhone.

    Raises:
        NotAvailable: there is none, or Xcode's tools are missing.
    """
    from coremltools.models.ml_program.experimental.remote_device import Device, DeviceType

    try:
        phones = Device.get_connected_devices(DeviceType.IPHONE)
    except Exception as error:
        raise NotAvailable(f"needs Xcode's devicectl: {error}") from error
    if not phones:
        raise NotAvailable("needs an iPhone that is connected, unlocked and in developer mode")
    return phones[0]


@lru_cache
def _prepared() -> Any:
    from coremltools.models.ml_program.experimental.remote_device import AppSigningCredentials

    team = os.environ.get(TEAM)
    if not team:
        raise NotAvailable(f"coreml:iphone needs an Apple development team to sign its app: set {TEAM}")
    signed = AppSigningCredentials(development_team=team)
    return _wait(_phone().prepare_for_model_debugging(signed))
