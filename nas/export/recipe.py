"""The recipe of the paper (Vasu et al., ICCV 2023, section 4.1) as arguments of timm's train script."""

from __future__ import annotations

from typing import Any

from fastvit.config import FastViTConfig
from nas.export.variant import MEAN, STD

# ImageNet-1K, 300 epochs at 256 px, no gradient clipping.
PAPER: dict[str, Any] = {
    "epochs": 300, "batch_size": 1024, "opt": "adamw", "lr": 1e-3, "min_lr": 1e-5, "weight_decay": 0.05,
    "sched": "cosine", "warmup_epochs": 5, "warmup_lr": 1e-6, "aa": "rand-m9-mstd0.5-inc1", "mixup": 0.8,
    "cutmix": 1.0, "reprob": 0.25, "remode": "pixel", "smoothing": 0.1, "model_ema_decay": 0.9995, "crop_pct": 0.9,
    "interpolation": "bicubic",
}
# What section 4.1 changes for 384 px.
FINE_TUNE: dict[str, Any] = {"epochs": 30, "lr": 5e-6, "weight_decay": 1e-8, "warmup_epochs": 0}


def recipe_yaml(name: str, config: FastViTConfig, resolution: int) -> str:
    """The recipe for `timm`'s train.py: `python train.py --data-dir DIR --config recipe.yaml`."""
    import yaml

    from fastvit.timm import expressible_in_timm

    found = expressible_in_timm(config)
    head = {"model": name if found is None else found[0]}
    if found is not None:
        head["model_kwargs"] = found[1]  # type: ignore[assignment]
    rest: dict[str, Any] = {
        "input_size": [3, resolution, resolution], "drop_path": config.drop_path, "mean": list(MEAN), "std": list(STD),
        **PAPER, "model_ema": True, "amp": True}
    intro = [f"# {name}: {config.describe()}",
             "# timm's train script: python train.py --data-dir DIR --config recipe.yaml",
             "# batch_size is the total of the paper; divide it by the number of processes."]
    if found is None:
        intro.append(f"# Stock timm cannot express this network: import {name} (beside this file) before the script,")
        intro.append(f'# python -c "import {name}, runpy; runpy.run_path(\'train.py\', run_name=\'__main__\')" '
                     "--data-dir DIR --config recipe.yaml")
    return "\n".join(intro) + "\n" + yaml.safe_dump(head | rest, sort_keys=False)
