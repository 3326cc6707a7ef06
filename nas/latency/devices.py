"""The devices by name: which are usable here, and what each missing one needs."""

from __future__ import annotations

import importlib
from dataclasses import dataclass

from fastvit.hint import did_you_mean
from nas.addresses import device_address, is_address
from nas.errors import NotAvailable, UsageError
from nas.latency.runtime import Runtime, Setting

# name: (module, class, arguments); imported when asked for
_RUNTIMES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "onnxruntime": ("onnxruntime", "OnnxRuntime", ()),
    "openvino": ("openvino", "OpenVino", ()),
    "torch:cpu": ("torch_runtime", "Torch", ("cpu",)),
    "torch:cuda": ("torch_runtime", "Torch", ("cuda",)),
    "torch:mps": ("torch_runtime", "Torch", ("mps",)),
    "executorch": ("executorch", "ExecuTorch", ()),
    "litert": ("litert", "LiteRt", ()),
    "tensorrt": ("tensorrt", "TensorRt", ()),
    "coreml": ("coreml", "CoreMl", ()),
    "coreml:cpu": ("coreml", "CoreMl", ("cpu",)),
    "coreml:gpu": ("coreml", "CoreMl", ("gpu",)),
    "coreml:ne": ("coreml", "CoreMl", ("ne",)),
    "coreml:iphone": ("coreml", "CoreMlPhone", ()),
}
_ALIASES = {"torch": "torch:cpu", "cpu": "onnxruntime", "cuda": "torch:cuda", "mps": "torch:mps",
            "coreml:all": "coreml"}
PREDICTED = ("iphone12pro",)  # nas.latency.phones


@dataclass(frozen=True)
class DeviceStatus:
    """`needs` says in one sentence what a missing device needs; `version` what would run the network."""

    name: str
    usable: bool
    needs: str = ""
    version: str = ""
    origin: str = "measured"
    precisions: tuple[str, ...] = ()


def canonical(device: str) -> str:
    """The device's full name.

    Raises:
        UsageError: unknown, with the known ones.
    """
    if is_address(device) or "@" in device:
        return device_address(device)
    name = _ALIASES.get(device, device)
    if name in _RUNTIMES or name in PREDICTED:
        return name
    known = [*_RUNTIMES, *PREDICTED]
    raise UsageError(f"--device {device}: expected one of {', '.join(known)}, http://HOST:PORT"
                     + did_you_mean(device, known))


def runtime(device: str) -> Runtime:
    """The runtime behind a device's name, whether it can be used here or not.

    Raises:
        UsageError: unknown, or a device that is only predicted.
        NotAvailable: an address where nobody answers.
    """
    name = canonical(device)
    if is_address(name):
        from nas.latency.device_client import Remote

        return Remote(name)
    if name in PREDICTED:
        raise UsageError(f"--device {device} is predicted, and this needs measurements; `search.py measure` shows "
                         "predictions")
    module, kind, arguments = _RUNTIMES[name]
    found: Runtime = getattr(importlib.import_module(f"nas.latency.{module}"), kind)(*arguments)
    return found


def check_device(device: str) -> None:
    """Refuse a device that cannot measure here.

    Raises:
        UsageError: unknown, or only predicted.
        NotAvailable: known, but something is missing; says what.
    """
    if needs := runtime(device).missing():
        raise NotAvailable(f"--device {device} {needs}")


def check_setting(chosen: Runtime, setting: Setting) -> None:
    """Refuse a setting that the runtime does not have.

    Raises:
        UsageError: with the value and what is offered.
    """
    for name in ("resolution", "batch", "threads"):
        value, low = getattr(setting, name), 32 if name == "resolution" else 1
        if value < low:
            raise UsageError(f"--{name} {value}: expected at least {low}")
    if setting.precision not in chosen.precisions:
        raise UsageError(f"--precision {setting.precision}: {chosen.name} offers {', '.join(chosen.precisions)}")
    if setting.threads > 1 and not chosen.threads:
        raise UsageError(f"--threads {setting.threads}: {chosen.name} has no threads to choose; leave it out")


def devices() -> list[DeviceStatus]:
    """Every device by name, usable or not."""
    found = []
    for name in _RUNTIMES:
        one = runtime(name)
        needs = one.missing()
        found.append(DeviceStatus(name, needs is None, needs or "", "" if needs else one.version(),
                                  precisions=one.precisions))
    from nas.latency.phones import PRECISION, words

    return found + [DeviceStatus(name, True, "", words(name), "predicted", (PRECISION,)) for name in PREDICTED]
