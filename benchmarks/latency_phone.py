"""How well the predicted phone predicts: each published FastViT from all others, and whole publications left out.

    python benchmarks/latency_phone.py [--count]    # --count: the work of relatives anew, as phone_networks.csv has it
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from torch import nn

from nas.latency.network import Network
from nas.latency.phones import PHONES, LeftOut, _whole, known, leave_one_out, leave_source_out

PHONE = "iphone12pro"


def multiply_accumulates(name: str, resolution: int) -> tuple[float, float]:
    """Dense and depthwise GMACs of a deployed model of timm."""
    sums = [0.0, 0.0]

    def count(module: nn.Module, _: object, output: torch.Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            work = module.weight.numel() * output[0, 0].numel() / 1e9
            sums[module.groups > 1 and module.groups == module.in_channels] += work
        elif isinstance(module, nn.Linear):
            sums[0] += module.weight.numel() / 1e9

    model = Network.of(f"timm:{name}").module(resolution)
    for module in model.modules():
        module.register_forward_hook(count)
    with torch.no_grad():
        model(torch.zeros(1, 3, resolution, resolution))
    return sums[0], sums[1]


def show(title: str, rows: list[LeftOut]) -> None:
    print(f"\n{title:<16}{'published':>10}{'predicted':>10}{'95 % interval':>18}{'error':>9}")
    for row in rows:
        interval = f"[{row.low_ms:.2f}, {row.high_ms:.2f}]"
        error = 100 * (row.predicted_ms / row.latency_ms - 1)
        print(f"{row.name:<16}{row.latency_ms:>10.3f}{row.predicted_ms:>10.3f}{interval:>18}{error:>7.1f} %  "
              f"{row.source}")
    errors = [abs(row.predicted_ms / row.latency_ms - 1) for row in rows]
    inside = [row.low_ms <= row.latency_ms <= row.high_ms for row in rows]
    print(f"MAPE {100 * np.mean(errors):.1f} %, {100 * np.mean(inside):.0f} % inside the 95 % interval")


def null(by: str) -> float:
    """Mean relative error of a line through all GMACs, "network" or "source" left out."""
    rows, errors = known(PHONE), []
    for row in rows if by == "network" else [row for row in rows if row.config is None]:
        rest = [other for other in rows if (other.name != row.name if by == "network" else other.source != row.source)]
        x = np.array([[sum(other.terms[1:3]), 1.0] for other in rest])
        ms = np.array([other.latency_ms for other in rest])
        line = np.linalg.lstsq(x / ms[:, None], np.ones(len(ms)), rcond=None)[0]
        errors.append(abs((line[0] * sum(row.terms[1:3]) + line[1]) / row.latency_ms - 1))
    return float(np.mean(errors))


def main() -> None:
    fit = _whole(PHONE)
    print(f"{PHONES[PHONE]}: {fit.costs[0]:.3f} ms + {fit.costs[1]:.3f} a dense GMAC + {fit.costs[2]:.3f} a depthwise "
          f"GMAC + {fit.costs[3]:.3f} a million elements of attention maps")
    for source, factor in fit.factors.items():
        print(f"  {100 * np.expm1(factor):+5.1f} %  {source}")
    show("network left out", leave_one_out(PHONE))
    show("source left out", leave_source_out(PHONE))
    print(f"\nnull, a line through GMACs: {100 * null('network'):.1f} % with networks, "
          f"{100 * null('source'):.1f} % with sources left out")
    if "--count" in sys.argv:
        for row in known(PHONE):
            if row.name.startswith(("MobileOne", "RepViT")):
                dense, depthwise = multiply_accumulates(row.name.lower().replace("-", "_").replace(".", "_"), 224)
                print(f"{row.name},224,{dense:.4f},{depthwise:.4f},0.0")


if __name__ == "__main__":
    main()
