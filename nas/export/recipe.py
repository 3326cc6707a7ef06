"""A recipe as arguments of timm's train script."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastvit.config import FastViTConfig
from nas.recipe import Recipe, taught_words

_OURS = ("resolution", "epoch_images", "seed", "drop_path", "distill")


def recipe_yaml(name: str, config: FastViTConfig, recipe: Recipe, num_classes: int, mean: Sequence[float],
                std: Sequence[float], teacher: str | None = None) -> str:
    """The recipe for timm's train.py, with the command that runs it as a comment."""
    import yaml

    from fastvit.timm import expressible_in_timm

    found = expressible_in_timm(config)
    head: dict[str, Any] = {"model": name if found is None else found[0]}
    if found is not None:
        head["model_kwargs"] = found[1]
    rate = config.drop_path if recipe.drop_path is None else recipe.drop_path
    values = {k: v for k, v in recipe.to_dict().items() if k not in _OURS and v is not None}
    rest: dict[str, Any] = {
        "num_classes": num_classes, "input_size": [3, recipe.resolution, recipe.resolution], "drop_path": rate,
        "mean": list(mean), "std": list(std), **values, "train_interpolation": "random", "model_ema": True, "amp": True,
        "amp_dtype": "bfloat16", "seed": recipe.seed}
    # train.py is part of timm's repository, not of the package.
    intro = [f"# {name}: {config.describe()}",
             "# With timm's train script (github.com/huggingface/pytorch-image-models), in this folder:"]
    if found is None:
        intro.append(f'# python -c "import {name}, runpy; runpy.run_path(\'PATH/train.py\', run_name=\'__main__\')" '
                     "--data-dir DIR --config recipe.yaml")
        intro.append(f"# Stock timm cannot express this network: {name}.py beside this file registers it first.")
    else:
        intro.append("# python PATH/train.py --data-dir DIR --config recipe.yaml")
    intro.append("# batch_size is the total; divide it by the number of processes.")
    if teacher is not None:
        intro.append(f"# Trained with distillation from {teacher}, which timm's script cannot: half of the loss is "
                     f"that of {taught_words(recipe.distill)}.")
    return "\n".join(intro) + "\n" + yaml.safe_dump(head | rest, sort_keys=False)
