"""measure(): from a configuration and a device to a Measurement, by way of the cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from fastvit.config import FastViTConfig
from nas.addresses import is_address
from nas.errors import Failure, UsageError
from nas.latency.cache import Entry, device_place
from nas.latency.device_client import measure_there
from nas.latency.devices import PREDICTED, canonical, check_device, check_setting, runtime
from nas.latency.network import Network
from nas.latency.phones import PRECISION, measurements, refuse
from nas.latency.process import MEASURING
from nas.latency.runtime import HALF_WIDTH, VERSIONS, Setting
from nas.memory import free_gb
from nas.runs.measurement import Measurement

Target = FastViTConfig | str


def measure(target: Target, device: str = "onnxruntime", *, resolution: int = 256, batch: int = 1, threads: int = 1,
            precision: str | None = None, protocol: str = "warm", budget_ms: float | None = None,
            half_width: float = HALF_WIDTH, fresh: bool = False, time_limit_s: float | None = None,
            name: str = "") -> Measurement:
    """Latency of the deployed form of `target` (a configuration or "timm:NAME") with random weights.

    A value measured before under the same conditions on this machine is reused unless `fresh`. With a budget,
    measuring ends as soon as the network is over it beyond doubt; `half_width` is the relative one of the interval
    that is aimed at, and a wide one takes less time. `time_limit_s` (else the runtime's own)
    holds for converting and for measuring, each. Without `precision` it is the first that the device offers.

    Raises:
        UsageError: device, protocol or a setting is unknown.
        NotAvailable: the device is missing something here; says what.
        Failure: the runtime failed, crashed or hung.
    """
    return measure_many([target], device, resolution=resolution, batch=batch, threads=threads, precision=precision,
                        protocol=protocol, budget_ms=budget_ms, half_width=half_width, fresh=fresh,
                        time_limit_s=time_limit_s, names=[name] if name else None)[0]


def measure_many(targets: Sequence[Target], device: str = "onnxruntime", *, resolution: int = 256, batch: int = 1,
                 threads: int = 1, precision: str | None = None, protocol: str = "warm",
                 budget_ms: float | None = None, half_width: float = HALF_WIDTH, fresh: bool = False,
                 time_limit_s: float | None = None, names: Sequence[str] | None = None) -> list[Measurement]:
    """Several networks, one after the other in the same process. Raises as `measure`."""
    if protocol not in VERSIONS:
        raise UsageError(f"--protocol {protocol}: expected one of {', '.join(VERSIONS)}")
    networks = [Network.of(target) for target in targets]
    device = canonical(device)
    if device in PREDICTED:
        refuse(networks, Setting(resolution, batch, threads, precision or PRECISION), protocol, device)
        return _named(measurements(networks, device, resolution), networks, names)
    check_device(device)
    chosen = runtime(device)
    setting = Setting(resolution, batch, threads, precision or chosen.precisions[0])
    check_setting(chosen, setting)
    if is_address(device):
        return _named(measure_there(device, networks, setting, protocol=protocol, budget_ms=budget_ms,
                                    half_width=half_width, fresh=fresh), networks, names)
    place = device_place(chosen, setting)
    entries = [Entry(place, network.key, VERSIONS[protocol]) for network in networks]
    found = [None if fresh else entry.read(budget_ms, half_width) for entry in entries]
    missing = [index for index, one in enumerate(found) if one is None]
    if missing:
        _check_memory([networks[index] for index in missing], setting)
        request: dict[str, Any] = {"targets": [networks[index].to_dict() for index in missing], "device": device,
                                   "setting": asdict(setting), "protocol": protocol, "budget_ms": budget_ms,
                                   "half_width": half_width}
        answers = MEASURING.ask(request, (time_limit_s or chosen.limit_s) * len(missing))
        for index, answer in zip(missing, answers, strict=True):
            found[index] = fresh_one = Measurement.from_dict(answer)
            entries[index].write(fresh_one)
    return _named([one for one in found if one is not None], networks, names)


def _check_memory(networks: Sequence[Network], setting: Setting) -> None:
    """Refuse what this machine's memory cannot hold, before anything of it is built.

    Raises:
        Failure: with what it takes and what is free.
    """
    free = free_gb()
    for network in networks:
        if (needed := network.memory_gb(setting.resolution, setting.batch)) > free:
            raise Failure(f"measuring {network.name} takes about {needed:.1f} GB at {setting.resolution} px and batch "
                          f"{setting.batch}, {free:.1f} GB are free; choose a smaller network, resolution or batch")


def _named(found: list[Measurement], networks: list[Network], names: Sequence[str] | None) -> list[Measurement]:
    shown = names or [network.name for network in networks]
    return [replace(one, name=text) for one, text in zip(found, shown, strict=True)]
