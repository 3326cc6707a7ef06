"""The written graph computes what torch computes."""

import numpy as np
import onnx
import pytest
import torch

from fastvit import PRESETS, FastViT, FastViTConfig, reparameterize
from nas.latency.network import Network
from nas.latency.onnx_graph import to_onnx
from space import SearchSpace

BASELINE = FastViTConfig(depths=(1, 1, 1, 1), widths=(16, 24, 32, 64), mlp_ratios=(2, 2, 2, 2),
                         mixers=("pool", "convmixer", "repmixer", "attention"), stem_stride=2)


def randomized(config: FastViTConfig, **arguments: int) -> torch.nn.Module:
    """A fused network whose folded statistics are not trivial."""
    torch.manual_seed(0)
    model = FastViT(config, **arguments)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
        if hasattr(module, "gamma"):
            torch.nn.init.uniform_(module.gamma, 0.1, 0.5)
    return reparameterize(model)


def outputs(model: onnx.ModelProto, image: torch.Tensor) -> np.ndarray:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"image": image.numpy()})[0]


def configs() -> dict[str, FastViTConfig]:
    rng, space = np.random.default_rng(3), SearchSpace.load("default")
    drawn = {f"random{i}": space.sample(rng) for i in range(4)}
    return {name: PRESETS[name] for name in ("t8", "sa12")} | drawn | {"baselines": BASELINE}


@pytest.mark.parametrize("name", configs())
def test_graph_agrees_with_torch(name: str) -> None:
    model = randomized(configs()[name], num_classes=20)
    image = torch.randn(2, 3, 64, 96)
    graph = to_onnx(model, (64, 96), batch=2)
    onnx.checker.check_model(graph, full_check=True)
    with torch.no_grad():
        expected = model(image).numpy()
    np.testing.assert_allclose(outputs(graph, image), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


@pytest.mark.slow
@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_at_its_resolution(name: str) -> None:
    model = randomized(PRESETS[name])
    image = torch.randn(1, 3, 256, 256)
    with torch.no_grad():
        expected = model(image).numpy()
    found = outputs(to_onnx(model, 256), image)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_batch_can_stay_open_and_the_classifier_can_be_left_out() -> None:
    model = randomized(BASELINE, num_classes=0, in_channels=1)
    graph = to_onnx(model, 32, dynamic_batch=True)
    for batch in (1, 3):
        image = torch.randn(batch, 1, 32, 32)
        with torch.no_grad():
            expected = model(image).numpy()
        np.testing.assert_allclose(outputs(graph, image), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_shapes_alone_make_a_network_that_can_be_timed() -> None:
    with torch.device("meta"):
        model = reparameterize(FastViT(PRESETS["sa12"]))
    found = outputs(to_onnx(model, 64), torch.randn(1, 3, 64, 64))
    assert np.isfinite(found).all()
    assert np.abs(found).max() > 1e-3


def test_an_unfused_model_is_refused() -> None:
    with pytest.raises(ValueError, match="reparameterize"):
        to_onnx(FastViT(PRESETS["t8"]))


@pytest.mark.parametrize("name", ["sa12", "random0", "random1", "random2", "baselines"])
def test_a_network_that_is_timed_has_the_shapes_of_the_deployed_one(name: str) -> None:
    config = configs()[name]
    with torch.device("meta"):
        deployed = reparameterize(FastViT(config))
    found = Network(config=config).skeleton
    assert {key: value.shape for key, value in found.state_dict().items()} == {
        key: value.shape for key, value in deployed.state_dict().items()}
    assert [type(module) for module in found.modules()] == [type(module) for module in deployed.modules()]
    assert to_onnx(found, 64).graph.node == to_onnx(deployed, 64).graph.node
