"""How well the predicted phone predicts: each published FastViT from all others, and networks of another family.

    python benchmarks/latency_phone.py
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import torch
from torch import nn

import fastvit
from fastvit.presets import ABLATIONS, PRESETS
from nas.latency.network import Network
from nas.latency.phones import PHONES, _whole, leave_one_out, predict, published, work

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


def main() -> None:
    fit = _whole(PHONE)
    print(f"{PHONES[PHONE]}: {fit.costs[0]:.3f} ms + {fit.costs[1]:.3f} a dense GMAC + {fit.costs[2]:.3f} a depthwise "
          f"GMAC + {fit.costs[3]:.3f} a million elements of attention maps")
    known = published(PHONE)
    ms, *_ = predict([(PRESETS | ABLATIONS)[name] for name in known], PHONE)
    inside = np.abs(ms / np.array(list(known.values())) - 1)
    print(f"\n{'left out':<12}{'published':>10}{'predicted':>10}{'95 % interval':>18}{'error':>8}")
    rows = leave_one_out(PHONE)
    for name, true, guess, low, high in rows:
        interval = f"[{low:.2f}, {high:.2f}]"
        print(f"{name:<12}{true:>10.3f}{guess:>10.3f}{interval:>18}{100 * (guess / true - 1):>7.1f} %")
    errors = np.array([abs(guess / true - 1) for _, true, guess, *_ in rows])
    gmacs = np.array([work([(PRESETS | ABLATIONS)[name]], 256)[0, 1:3].sum() for name in known])
    truth = np.array(list(known.values()))
    null = []
    for left in range(len(truth)):
        kept = np.arange(len(truth)) != left
        line = np.linalg.lstsq(np.stack([gmacs, np.ones_like(gmacs)], 1)[kept] / truth[kept, None],
                               np.ones(kept.sum()), rcond=None)[0]
        null.append(abs((line[0] * gmacs[left] + line[1]) / truth[left] - 1))
    print(f"MAPE {100 * inside.mean():.1f} % on what it was fitted to; left out {100 * errors.mean():.1f} %, and "
          f"{100 * errors[:-1].mean():.1f} % without V3, the only one with attention in stage 3\n"
          f"a line through GMACs, left out: {100 * np.mean(null):.1f} %, without V3 {100 * np.mean(null[:-1]):.1f} %")
    print(f"\n{'never seen, 224 px':<20}{'published':>10}{'predicted':>10}{'error':>8}")
    with Path(fastvit.__file__).with_name("published.csv").open(encoding="utf-8", newline="") as file:
        others = {row["model"]: float(row["latency_ms"]) for row in csv.DictReader(file)
                  if row["model"].startswith("MobileOne") and row["device"] == PHONES[PHONE]}
    found = []
    for model, true in sorted(others.items()):
        dense, depthwise = multiply_accumulates(model.lower().replace("-", "_"), 224)
        guess = float(fit.costs[:3] @ [1, dense, depthwise])
        found.append(abs(guess / true - 1))
        print(f"{model:<20}{true:>10.2f}{guess:>10.2f}{100 * (guess / true - 1):>7.1f} %")
    print(f"MAPE {100 * np.mean(found):.1f} %")


if __name__ == "__main__":
    main()
