"""timm: config.json + model.safetensors for `timm.create_model("local-dir:PATH", pretrained=True)`.

Stock timm reads them where it can express the network; otherwise a module NAME.py registers it first.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from fastvit.config import FastViTConfig
from nas.export.formats import Artefact, Runner, lacks
from nas.export.variant import Variant, read_sheet
from nas.recipe import Recipe

WEIGHTS = "model.safetensors"
_MODULE = '''"""Registers {name} with timm. Needs the FastViT configuration explorer (package `fastvit`) installed.

    import {name}, timm
    model = timm.create_model("local-dir:PATH_OF_THIS_FOLDER", pretrained=True)
"""

from fastvit import FastViTConfig
from fastvit.timm import register

CONFIG = FastViTConfig.from_json("""
{config}
""")

register("{name}", CONFIG, {pretrained_cfg!r})
'''


def missing() -> str | None:
    return lacks("timm", "pip install timm")


def pretrained_cfg(variant: Variant, *, stock: bool) -> dict[str, Any]:
    """What timm should know of the weights. Says who made them: a base's tag and licence are not ours.

    Args:
        stock: the weights carry the names of timm's own FastViT.
    """
    from fastvit.timm import pretrained_names

    side, recipe = variant.resolution, variant.recipe or Recipe()
    return pretrained_names(variant.config, stock=stock) | {
        "tag": variant.name, "license": "other", "origin_url": "", "paper_ids": "arXiv:2303.14189",
        "num_classes": variant.num_classes, "input_size": [3, side, side],
        "pool_size": [-(-side // variant.config.strides[-1])] * 2,
        "crop_pct": recipe.crop_pct, "interpolation": recipe.interpolation, "mean": list(variant.mean),
        "std": list(variant.std), "fixed_input_size": False, "custom_load": False, "description": variant.weights}


def write(variant: Variant, folder: Path) -> list[Artefact]:
    from safetensors.torch import save_file

    from fastvit.timm import expressible_in_timm, to_timm

    state = variant.model.state_dict()
    document: dict[str, Any] = {
        "architecture": variant.name, "num_classes": variant.num_classes,
        "num_features": variant.model.num_features, "global_pool": "avg"}
    found = expressible_in_timm(variant.config)
    if found is not None:
        document["architecture"], document["model_args"] = found
        state = to_timm(state, variant.config)
    else:
        (folder / f"{variant.name}.py").write_text(_MODULE.format(
            name=variant.name, config=variant.config.to_json(indent=2),
            pretrained_cfg=pretrained_cfg(variant, stock=False)))
    if variant.class_names:
        document["label_names"] = list(variant.class_names)
    document["pretrained_cfg"] = pretrained_cfg(variant, stock=found is not None)
    (folder / "config.json").write_text(json.dumps(document, indent=2) + "\n")
    save_file({key: tensor.contiguous() for key, tensor in state.items()}, folder / WEIGHTS, {"format": "pt"})
    how = "stock timm" if found else f"timm after `import {variant.name}`"
    return [Artefact(WEIGHTS, 1e-4, f"train-form weights for {how}")]


def load(folder: Path, artefact: Artefact) -> Runner:
    import timm
    import torch

    sheet = read_sheet(folder)
    module = folder / f"{sheet['name']}.py"
    if module.exists():
        # Not the module itself: a folder from elsewhere must not run code here. It would do the same.
        from fastvit.timm import register

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # timm warns of a second registration under one name
            register(sheet["name"], FastViTConfig.from_dict(sheet["config"]))
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()

    def run(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return model(torch.from_numpy(images)).numpy()  # type: ignore[no-any-return]

    return run
