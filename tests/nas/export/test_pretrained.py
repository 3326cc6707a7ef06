"""Pretrained parents: what they are read from, and what a network inherits of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from fastvit import PRESETS, FastViT, FastViTConfig
from fastvit.timm import to_timm
from nas.errors import UsageError
from nas.export.pretrained import read_pretrained
from nas.proxy.pretrained import Pretrained
from search import main
from tests.fastvit.test_lean import trained

SMALL = FastViTConfig(depths=(1, 1, 2, 1), widths=(8, 16, 32, 64), mlp_ratios=(2, 2, 2, 2), mixers=("repmixer",) * 4)


def test_a_variant_s_folder_hands_down_what_its_extra_branches_learned(tmp_path: Path) -> None:
    parent = trained("t8")
    (tmp_path / "config.json").write_text(parent.config.to_json())
    save_file(parent.state_dict(), tmp_path / "parent.safetensors")
    assert main(["export", str(tmp_path / "config.json"), "--weights", str(tmp_path / "parent.safetensors"), "--name",
                 "parent", "--to", str(tmp_path), "--formats", "timm", "--resolution", "64"]) == 0
    found, images = read_pretrained(str(tmp_path / "parent")), torch.randn(4, 3, 64, 64)
    with torch.no_grad():
        before = parent(images)
        assert torch.allclose(found.model(images), before, rtol=1e-3, atol=1e-3 * before.abs().max().item())
    found.settle([images])
    # The same network in the lean form inherits everything but the classifier.
    child = FastViT(parent.config.replace(branches=0), 7)
    head = child.head.weight.clone()
    said = found.hand_down(child.eval())
    assert said.startswith("a slice of parent (")
    assert "100%" not in said
    assert torch.equal(child.head.weight, head)
    with torch.no_grad():
        for mine, theirs in zip(child.forward_features(images), parent.forward_features(images), strict=True):
            assert torch.allclose(mine, theirs, rtol=1e-2, atol=1e-2 * theirs.abs().max().item())


def test_a_file_of_a_run_knows_its_configuration(tmp_path: Path) -> None:
    model = FastViT(SMALL.replace(branches=0), 3)
    save_file(model.state_dict(), tmp_path / "1-full.safetensors", {"config": SMALL.replace(branches=0).to_json()})
    found = read_pretrained(str(tmp_path / "1-full.safetensors"))
    assert found.model.config == SMALL
    found.write(tmp_path / "parent.safetensors")  # as a run keeps it for its workers
    again = Pretrained.read(tmp_path / "parent.safetensors")
    assert again.name == found.name
    assert all(torch.equal(value, again.model.state_dict()[name]) for name, value in found.model.state_dict().items())
    (tmp_path / "parent.safetensors").write_bytes(b"no weights")
    with pytest.raises(UsageError, match="pretrained parent, cannot be read"):
        Pretrained.read(tmp_path / "parent.safetensors")


def test_a_file_of_a_preset_is_known_by_its_shapes(tmp_path: Path) -> None:
    config = PRESETS["t8"]
    save_file(to_timm(FastViT(config, 5).state_dict(), config), tmp_path / "theirs.safetensors")
    assert read_pretrained(str(tmp_path / "theirs.safetensors")).model.config == config


@pytest.mark.parametrize(("spec", "said"), [
    ("timm:resnet18", "one of timm's FastViTs"), ("nowhere", "no such file or folder"), (".", "no exported variant"),
    ("README.md", "cannot be read")])
def test_what_is_no_parent(spec: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read_pretrained(spec)


def test_other_weights_are_no_parent(tmp_path: Path) -> None:
    save_file(FastViT(SMALL, 3).state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(UsageError, match="those of no preset"):
        read_pretrained(str(tmp_path / "other.safetensors"))
    assert main(["--budget-ms", "1", "--data", "builtin", "--parent", str(tmp_path / "other.safetensors")]) == 2
