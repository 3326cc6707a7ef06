"""The command that recipe.yaml prints trains the variant for an epoch, and what it saves comes back.

timm's own train.py is in no wheel; timm_train_double.py says what stands in for it.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastvit import PRESETS, FastViTConfig
from nas.export import Variant, export
from nas.export.weights import load_weights, random_model
from tests.fastvit.test_fusion import narrow

DOUBLE = Path(__file__).with_name("timm_train_double.py")
STOCK = PRESETS["t8"].replace(depths=(1, 1, 1, 1), widths=(8, 16, 32, 64))


@pytest.mark.parametrize("config", [STOCK, narrow(PRESETS["sa12"]).replace(depths=(1, 1, 1, 1))],
                         ids=["stock", "own"])
def test_the_printed_command_trains_an_epoch(config: FastViTConfig, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for split in ("train", "validation"):
        for name in ("a", "b"):
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for number in range(4):
                picture = rng.integers(0, 255, (40, 40, 3), np.uint8)
                Image.fromarray(picture).save(tmp_path / "data" / split / name / f"{number}.png")
    variant = Variant("my_net", config, random_model(config, 2), 32)
    folder = export(variant, tmp_path / "out", ["timm"]).folder
    printed = re.findall(r"^#\s+(python .*)$", (folder / "recipe.yaml").read_text(), re.M)[-1]
    assert "--data-dir DIR --config recipe.yaml" in printed
    words = shlex.split(printed.replace("PATH/train.py", str(DOUBLE)))
    words = [sys.executable, *words[1:]]
    words[words.index("DIR")] = str(tmp_path / "data")
    short = ["--epochs", "1", "--warmup-epochs", "0", "--batch-size", "4", "--device", "cpu", "--workers", "0",
             "--output", str(tmp_path)]
    done = subprocess.run([*words, *short], cwd=folder, capture_output=True, text=True, check=False,
                          env=os.environ | {"PYTHONPATH": str(Path.cwd()), "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-2000:]
    assert re.search(r"^epoch 0 loss \d", done.stdout, re.M)
    model, by = load_weights(tmp_path / "last.pth.tar", config)
    assert by == ("timm" if config is STOCK else "ours")
    assert model.num_classes == 2
