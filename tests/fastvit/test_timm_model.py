"""What timm asks of every model in its registry, asked of ours (the checks of its tests/test_models.py)."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import timm
import torch
from timm.models import FeatureInfo
from timm.models._manipulate import group_parameters
from timm.optim import create_optimizer_v2
from torch import nn

from fastvit import PRESETS, SUCCESSORS, FastViTConfig
from fastvit import timm as bridge
from space import SearchSpace
from tests.fastvit.test_fusion import narrow

MODELS: dict[str, FastViTConfig] = {
    "zz_t8": narrow(PRESETS["t8"]), "zz_sa12": narrow(PRESETS["sa12"]),
    "zz_own": narrow(SearchSpace.load("default").sample(np.random.default_rng(4))),
    "zz_lean": narrow(PRESETS["sa12"]).replace(branches=0), "zz_wide": narrow(PRESETS["t8"]).replace(branches=2),
    "zz_mci0": narrow(SUCCESSORS["mci0"]), "zz_mci3": narrow(SUCCESSORS["mci3"])}
for _name, _config in MODELS.items():
    bridge.register(_name, _config)
names = pytest.mark.parametrize("name", MODELS)


@names
@torch.no_grad()
def test_forward_and_checkpointing_give_the_same(name: str) -> None:
    model = timm.create_model(name).eval()
    x = torch.randn(1, 3, 64, 96)
    out = model(x)
    assert out.shape == (1, 1000)
    model.set_grad_checkpointing()
    assert torch.allclose(model(x), out, rtol=1e-4, atol=1e-5)
    with pytest.raises(TypeError):
        timm.create_model(name, not_a_model_arg=1)


@names
def test_every_parameter_gets_a_gradient_and_checkpointing_the_same_one(name: str) -> None:
    grads = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        model = timm.create_model(name, num_classes=42).train()
        model.set_grad_checkpointing(checkpointing)
        out = model(torch.randn(2, 3, 64, 64))
        assert out.shape == (2, 42)
        out.mean().backward()
        assert not [key for key, parameter in model.named_parameters() if parameter.grad is None]
        grads.append([parameter.grad for parameter in model.parameters()])
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other)


@names
def test_heads_and_pools(name: str) -> None:
    with torch.device("meta"):
        model = timm.create_model(name, device="meta", dtype=torch.float32).eval()
    cfg, state = model.default_cfg, model.state_dict()
    x = torch.randn(1, *cfg["input_size"], device="meta")
    assert model.in_chans == 3
    features = model.forward_features(x)
    assert features.shape[1:] == (model.num_features, *cfg["pool_size"])
    pooled = model.forward_head(features, pre_logits=True)
    assert pooled.shape[1] == model.head_hidden_size
    assert cfg["classifier"] + ".weight" in state
    first = cfg["first_conv"]
    assert all(conv + ".weight" in state for conv in ([first] if isinstance(first, str) else first))
    model.reset_classifier(0)
    assert model(x).shape == pooled.shape
    model.reset_classifier(0, "")
    assert model(x).shape == features.shape
    model.reset_classifier(2)  # as timm's heads do, whatever became of the pooling
    assert isinstance(model.get_classifier(), nn.Linear)
    for classes, pool, shape in ((0, "avg", pooled.shape), (0, "", features.shape), (7, "max", (1, 7)),
                                 (7, "catavgmax", (1, 7))):
        assert timm.create_model(name, num_classes=classes, global_pool=pool, device="meta").eval()(x).shape == shape
    with pytest.raises(ValueError, match="num_classes=0"):
        timm.create_model(name, num_classes=7, global_pool="", device="meta")
    with pytest.raises(ValueError, match="global_pool = 'middle'"):
        timm.create_model(name, global_pool="middle", device="meta")


@names
def test_a_new_head_keeps_dtype_device_mode_and_freezing(name: str) -> None:
    model = timm.create_model(name, device="meta", dtype=torch.float64).eval()
    assert {tensor.device.type for tensor in model.state_dict().values()} == {"meta"}
    model.reset_classifier(2)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float64}
    assert not any(module.training for module in model.modules())
    model.requires_grad_(False)
    model.reset_classifier(0)
    assert not [parameter for parameter in model.parameters() if parameter.requires_grad]


@names
@torch.no_grad()
def test_intermediates_and_features(name: str) -> None:
    model = timm.create_model(name).eval()
    info = FeatureInfo(model.feature_info, len(model.feature_info))
    x = torch.randn(1, 3, 96, 64)
    out, maps = model.forward_intermediates(x)
    torch.testing.assert_close(out, model.forward_features(x), rtol=1e-5, atol=1e-8)
    for channels, stride, found in zip(info.channels(), info.reduction(), maps, strict=True):
        assert found.shape == (1, channels, math.ceil(96 / stride), math.ceil(64 / stride))
    features = timm.create_model(name, features_only=True, out_indices=(0, 2)).eval()
    assert [found.shape[1] for found in features(x)] == features.feature_info.channels()
    assert features.feature_info.reduction() == [4, 16]
    features.model.set_grad_checkpointing(True)
    assert len(features.train()(x.expand(2, -1, -1, -1))) == 2


@names
def test_pruning_leaves_nothing_unused(name: str) -> None:
    model = timm.create_model(name, drop_rate=0.5)
    x, count = torch.randn(2, 3, 64, 64), len(model.feature_info)
    for indices, prune_norm in (([0], False), ([count - 1], False), (list(range(count)), True)):
        pruned = copy.deepcopy(model).train()
        taken = pruned.prune_intermediate_layers(indices, prune_norm=prune_norm)
        sum(found.sum() for found in pruned.forward_intermediates(x, indices=taken, intermediates_only=True)).backward()
        assert not [key for key, parameter in pruned.named_parameters() if parameter.grad is None]
        pruned.eval().reset_classifier(7, "avg")
        assert pruned(x).shape == (2, 7)
        assert pruned.forward_head(pruned.forward_features(x), pre_logits=True).shape[1] == pruned.head_hidden_size


@names
@torch.no_grad()
def test_torchscript_gives_the_same(name: str) -> None:
    model = timm.create_model(name, scriptable=True).eval()
    x = torch.randn(1, 3, 64, 64)
    for module in (model, timm.utils.reparameterize_model(model)):
        torch.testing.assert_close(torch.jit.script(module)(x), module(x), rtol=1e-4, atol=1e-5)
    torch.jit.script(model.train())(torch.randn(2, 3, 64, 64))


@names
def test_optimizers_find_their_groups(name: str) -> None:
    model = timm.create_model(name)
    groups = group_parameters(model, model.group_matcher(), reverse=True)
    assert len(set(groups.values())) > sum(model.config.depths)
    assert model.no_weight_decay() <= dict(model.named_parameters()).keys()
    create_optimizer_v2(model, "adamw", lr=1e-3, weight_decay=0.05, layer_decay=0.8)


def test_dropout_before_the_classifier() -> None:
    model = timm.create_model("zz_t8", drop_rate=0.5, drop_path_rate=0.0)
    features = torch.ones(4, model.num_features, 2, 2)
    assert (model.train().forward_head(features, pre_logits=True) == 0).any()
    assert (model.eval().forward_head(features, pre_logits=True) == 1).all()
    assert isinstance(model.get_classifier(), nn.Linear)
