"""Whatever a trainer wraps around a FastViT's weights: read safely, or refused in one sentence with the prefix."""

from __future__ import annotations

import argparse
import contextlib
import pathlib
import string
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from fastvit import PRESETS, SUCCESSORS, FastViT, reparameterize
from fastvit.timm import TimmFastViT, to_apple, to_timm
from nas.errors import UsageError
from nas.export.checkpoints import read_checkpoint
from nas.export.weights import load_weights
from tests.fastvit.test_fusion import narrow, randomise

CONFIG = narrow(PRESETS["sa12"]).replace(depths=(1, 1, 1, 1))
MODEL = randomise(FastViT(CONFIG, 10)).eval()
STATE = MODEL.state_dict()
OTHER = {key: torch.zeros_like(value) for key, value in STATE.items()}  # the ones that are not meant


def prefixed(prefix: str, state: dict[str, Any] = STATE) -> dict[str, Any]:
    return {prefix + key: value for key, value in state.items()}


ARGS = argparse.Namespace(model="fastvit_sa12", lr=1e-3, input_size=[3, 96, 96], data_dir=pathlib.Path("/data"))
# What trainers write, by whose it is.
READ: dict[str, Any] = {
    "plain": STATE,
    "ordered": OrderedDict(STATE),
    "timm's trainer": {"epoch": 3, "arch": "x", "version": 2, "args": ARGS, "metric": np.float64(71.5),
                       "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}}, "state_dict": STATE},
    "timm's trainer with EMA": {"args": ARGS, "state_dict": OTHER, "state_dict_ema": STATE},
    "torch.compile": prefixed("_orig_mod."),
    "DDP": {"model": prefixed("module.")},
    "DDP and compile": {"state_dict": prefixed("module._orig_mod.")},
    "Lightning model.": {"epoch": 1, "pytorch-lightning_version": "2.5", "state_dict": prefixed("model."),
                         "hyper_parameters": {"lr": 0.1, "args": ARGS}, "loops": {},
                         "callbacks": {"x": {"best": None}}},
    "Lightning net.": {"state_dict": prefixed("net.")},
    "Lightning with a criterion": {"state_dict": prefixed("model.") | {"criterion.weight": torch.ones(10)}},
    "Lightning with EMA": {"state_dict": prefixed("model.", OTHER) | prefixed("ema_model.module.")},
    "AveragedModel": prefixed("module.") | {"n_averaged": torch.tensor(7)},
    "params_ema": {"params": OTHER, "params_ema": STATE},
    "model_state_dict": {"epoch": 1, "model_state_dict": STATE, "loss": 0.3},
    "Accelerate": {"models": {"0": STATE}},
    "a detector": prefixed("backbone.body.") | {"neck.weight": torch.ones(3)},
    "half precision": {key: value.half() if value.is_floating_point() else value for key, value in STATE.items()},
}


@pytest.mark.parametrize("kind", READ)
@pytest.mark.parametrize("names", ["ours", "timm", "apple"])
def test_what_trainers_write_is_read(kind: str, names: str, tmp_path: Path) -> None:
    def named(content: Any) -> Any:
        """The layout with its states under the other names."""
        if not isinstance(content, dict):
            return content
        at = next((key.removesuffix("stem.0.convs.0.conv.weight") for key in content
                   if isinstance(key, str) and key.endswith("stem.0.convs.0.conv.weight")), None)
        if at is None:
            return {key: named(value) for key, value in content.items()}
        every = [key.removesuffix("stem.0.convs.0.conv.weight") for key in content
                 if key.endswith("stem.0.convs.0.conv.weight")]
        convert: Callable[..., dict] = {"ours": lambda state, _: state, "timm": to_timm, "apple": to_apple}[names]
        out = {key: value for key, value in content.items() if not any(key.startswith(one) for one in every if one)}
        out = {} if "" in every else out
        for one in every:
            inner = {key.removeprefix(one): value for key, value in content.items()
                     if key.startswith(one) and key.removeprefix(one) in STATE}
            out |= prefixed(one, convert(inner, CONFIG))
        return out

    path = tmp_path / "w.pth.tar"
    torch.save(named(READ[kind]), path)
    loaded, by = load_weights(path, CONFIG)
    assert by.lower() == names
    atol = 1e-3 if kind == "half precision" else 0
    for key, value in loaded.state_dict().items():
        assert torch.allclose(value.float(), STATE[key].float(), rtol=2e-3, atol=atol)


def test_a_safetensors_file_with_a_prefix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "w.safetensors"
    save_file({**prefixed("model.net."), "loss.weight": torch.ones(2)}, path)
    loaded, _ = load_weights(path, CONFIG)
    assert torch.equal(loaded.head.weight, STATE["head.weight"])
    assert "left out 1 others (loss.weight)" in capsys.readouterr().err


WORDS = st.lists(st.text(string.ascii_lowercase + "_", min_size=1, max_size=6), max_size=3)


@given(parts=WORDS, names=WORDS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_prefix_under_any_names(parts: list[str], names: list[str], tmp_path: Path) -> None:
    content: Any = prefixed("".join(part + "." for part in parts))
    for name in names:
        content = {name: content, "epoch": 1}
    torch.save(content, tmp_path / "w.pt")
    found = read_checkpoint(tmp_path / "w.pt")
    assert found.state.keys() == STATE.keys()
    assert not found.left_out


class Custom:
    """Stands for anything that unpickling would have to run code for."""


FUSED = reparameterize(MODEL).state_dict()
REFUSED: dict[str, tuple[Any, str]] = {
    "two networks": ({"state_dict": prefixed("student.") | prefixed("teacher.")}, r"'state_dict / student\.'.*teacher"),
    "two averages": ({"ema": STATE, "swa": STATE}, "holds 2 FastViTs"),
    "another network": ({"state_dict": {"module.conv1.weight": torch.ones(1)}}, r"prefix 'module\.'"),
    "a text encoder": ({f"text.layers.{i}.weight": torch.ones(1) for i in range(3)}, r"prefix 'text\.'"),
    "fused by us": (FUSED, "fused network"),
    "fused by us, wrapped": ({"model": prefixed("module.", FUSED)}, "fused network"),
    "no tensors": ({"epoch": 3, "loss": [1, 2]}, "no dictionary of tensors"),
    "a list": ([1, 2], "no dictionary of tensors"),
    "objects that run code": ({"state_dict": STATE, "config": Custom()}, "Custom.*could run code.*state_dict"),
    "a whole module": (nn.Linear(2, 2), "Linear.*could run code"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_the_rest_is_refused_in_one_sentence(kind: str, tmp_path: Path) -> None:
    content, words = REFUSED[kind]
    path = tmp_path / "w.pth"
    torch.save(content, path)
    with pytest.raises(UsageError, match=words) as caught:
        load_weights(path, CONFIG)
    assert "\n" not in str(caught.value)


@given(data=st.binary(max_size=200))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_bytes_end_in_a_sentence(data: bytes, tmp_path: Path) -> None:
    for suffix in ("pth", "safetensors"):
        path = tmp_path / f"w.{suffix}"
        path.write_bytes(data)
        with pytest.raises(UsageError, match="--weights"):
            load_weights(path, CONFIG)


def test_a_damaged_checkpoint_ends_in_a_sentence_or_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save({"state_dict": STATE, "args": ARGS}, path)
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(40):
        data = bytearray(whole[: rng.integers(1, len(whole))] if rng.random() < 0.3 else whole)
        data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
        path.write_bytes(data)
        with contextlib.suppress(UsageError):
            load_weights(path, CONFIG)


def test_what_timms_saver_writes(tmp_path: Path) -> None:
    from timm.utils import CheckpointSaver, ModelEmaV3

    model = TimmFastViT(CONFIG, 10)
    model.load_state_dict(OTHER)
    average = ModelEmaV3(model, decay=0.5)
    average.module.load_state_dict(STATE)
    saver = CheckpointSaver(model=model, optimizer=torch.optim.AdamW(model.parameters()), args=ARGS, model_ema=average,
                            checkpoint_dir=str(tmp_path), recovery_dir=str(tmp_path))
    saver.save_checkpoint(0, metric=12.5)
    loaded, _ = load_weights(tmp_path / "last.pth.tar", CONFIG)
    assert torch.equal(loaded.head.weight, STATE["head.weight"])  # the averaged ones


def test_mobileclips_projection_is_the_head(tmp_path: Path) -> None:
    config = narrow(SUCCESSORS["mci0"])
    model = randomise(FastViT(config, 6))
    nn.init.zeros_(model.head.bias)
    state = to_apple(model.state_dict(), config)
    state["head.proj"] = state.pop("head.weight").T
    del state["head.bias"]
    torch.save(prefixed("image_encoder.model.", state) | {"text_encoder.x": torch.ones(1)}, tmp_path / "mobileclip.pt")
    loaded, by = load_weights(tmp_path / "mobileclip.pt", config)
    assert by == "Apple"
    assert all(torch.equal(value, loaded.state_dict()[key]) for key, value in model.state_dict().items())
