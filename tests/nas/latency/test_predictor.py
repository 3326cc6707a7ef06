"""The predictor against devices whose costs are known, and its calibration on a real one."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import kendalltau

from fastvit import PRESETS, FastViTConfig
from fastvit.cost import cost
from nas.errors import Failure
from nas.latency import calibration as calibrating
from nas.latency.calibration import calibrate, design, nulls
from nas.latency.features import features
from nas.latency.predictor import LEAST, Predictor
from nas.latency.runtime import Setting
from nas.runs.measurement import Origin
from nas.runs.trial import Trial
from search import main
from space import SearchSpace
from tests.nas.trials import measured

SPACE = SearchSpace.load("default")
MACS = ("stem", "dense macs", "depthwise macs", "attention macs", "head", "classifier")
BASELINES = FastViTConfig(depths=(1, 2, 1, 1), widths=(16, 40, 64, 128), mlp_ratios=(2, 1.5, 2, 3), stem_stride=2,
                          mixers=("repmixer", "repmixer", "attention", "attention"))


def drawn(count: int, seed: int) -> list[FastViTConfig]:
    rng = np.random.default_rng(seed)
    return [SPACE.sample(rng) for _ in range(count)]


def device_ms(configs: list[FastViTConfig], resolution: int, seed: int = 0) -> np.ndarray:
    """A device on which depthwise work costs 4 times, and stage 4 half, of what dense work costs elsewhere."""
    work = features(configs, resolution)
    price = {"dense macs": 0.01, "depthwise macs": 0.04, "depthwise elements": 0.2, "weights": 0.1, "blocks": 0.02,
             "attention blocks": 0.1, "attention maps": 0.5, "network": 0.1}
    costs = [price.get(group, 0.0) * (0.5 if name.endswith("stage 3") else 1.0)
             for group, name in zip(work.groups, work.names, strict=True)]
    return work.values @ costs * np.exp(0.01 * np.random.default_rng(seed).standard_normal(len(configs)))


@pytest.mark.parametrize("resolution", [32, 97, 256, (64, 160)])
def test_the_work_adds_up_to_the_closed_form_cost(resolution: int | tuple[int, int]) -> None:
    configs = [*PRESETS.values(), BASELINES, *drawn(20, 0)]
    work = features(configs, resolution)
    counted = work.values[:, [group in MACS for group in work.groups]].sum(1)
    np.testing.assert_allclose(counted / 1e3, [cost(config, resolution).gmacs for config in configs], rtol=1e-9)
    assert (work.values >= 0).all()


@pytest.mark.parametrize("resolution", [64, 256])
def test_twenty_networks_are_enough_and_both_nulls_are_beaten(resolution: int) -> None:
    seen, unseen = drawn(20, 1), drawn(50, 2)
    ms, true = device_ms(seen, resolution, 1), device_ms(unseen, resolution, 2)
    predicted, sd = Predictor.for_device("onnxruntime", resolution=resolution).fit(seen, ms).predict(unseen)
    error = np.abs(predicted / true - 1)
    assert error.mean() <= 0.04
    assert kendalltau(predicted, true)[0] >= 0.93
    for null in nulls(seen, ms, unseen, resolution).values():
        assert error.mean() < 0.6 * np.abs(null / true - 1).mean()
    assert 0.85 <= np.mean(error < 1.96 * sd / predicted) <= 1.0


def test_the_presets_alone_do_not_claim_to_know_the_space() -> None:
    presets, others = list(PRESETS.values()), drawn(50, 2)
    found = Predictor.for_device("onnxruntime", resolution=64).fit(presets, device_ms(presets, 64))
    near, far = (found.predict(configs) for configs in (presets, others))
    assert np.median(far[1] / far[0]) > 1.3 * np.median(near[1] / near[0])
    true = device_ms(others, 64, 3)
    assert np.mean(np.abs(far[0] - true) < 1.96 * far[1]) > 0.8


def test_nothing_is_predicted_from_too_little() -> None:
    found = Predictor.for_device("onnxruntime")
    configs = drawn(LEAST, 0)
    assert np.isnan(found.predict(configs)).all()
    assert not found.fit(configs[:-1], [1.0] * (LEAST - 1)).ready
    assert found.fit(configs, device_ms(configs, 256)).ready
    assert found.predict([])[0].shape == (0,)


def record(config: FastViTConfig, ms: float, origin: str = "measured", **more: float) -> Trial:
    return Trial(0, config=config, latency=replace(measured(ms, half_width=0.02, origin=Origin(origin)), **more))


def test_a_run_improves_it_with_what_it_measures() -> None:
    seen, more, unseen = drawn(6, 1), drawn(60, 3), drawn(50, 2)
    found = Predictor.for_device("onnxruntime", resolution=64).fit(seen, device_ms(seen, 64))
    before = np.abs(found.predict(unseen)[0] / device_ms(unseen, 64) - 1).mean()
    records = [record(config, ms) for config, ms in zip(more, device_ms(more, 64, 4), strict=True)]
    assert found.update([*records, record(unseen[0], 1e6, "predicted")]) == 60
    assert found.update(records) == 0
    after, _ = found.predict(unseen)
    assert np.abs(after / device_ms(unseen, 64) - 1).mean() < 0.7 * before


def test_saved_under_its_conditions_and_read_back() -> None:
    configs = drawn(12, 1)
    found = Predictor.for_device("onnxruntime", resolution=64).fit(configs, device_ms(configs, 64))
    assert Predictor.load_or_none("onnxruntime", resolution=64) is None
    found.save()
    again = Predictor.load_or_none("onnxruntime", resolution=64)
    np.testing.assert_array_equal(again.predict(configs)[0], found.predict(configs)[0])
    for other in ({"resolution": 96}, {"resolution": 64, "threads": 2}, {"resolution": 64, "precision": "int8"}):
        assert Predictor.load_or_none("onnxruntime", **other) is None
    found.path.write_text("{")
    assert Predictor.load_or_none("onnxruntime", resolution=64) is None


def test_the_design_tells_more_than_chance() -> None:
    chosen = [config for config, _ in zip(design(SPACE, 256), range(16), strict=False)]
    assert len({config.key() for config in chosen}) == 16
    assert all(config in SPACE for config in chosen)

    def information(configs: list[FastViTConfig]) -> float:
        shares, _ = calibrating._shares(features(configs, 256))
        return float(np.linalg.slogdet(shares.T @ shares + 0.05**2 * np.eye(shares.shape[1]))[1])

    assert information(chosen) > max(information(drawn(16, seed)) for seed in range(20))


SMALL = """
depths = [[1, 2], [1], [1, 2], [1]]
widths = [[16, 24], [32], [48, 64], [96, 128]]
mlp_ratios = [1, 2]
mixers = [["repmixer"], ["repmixer"], ["repmixer"], ["repmixer", "attention"]]
"""


@pytest.mark.usefixtures("quick")
def test_calibrating_a_real_device(capsys: pytest.CaptureFixture[str], tmp_path) -> None:
    (tmp_path / "small.toml").write_text(SMALL)
    words = ["calibrate", "--resolution", "32", "--seconds", "6", "--space", str(tmp_path / "small.toml"), "--json"]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["networks"] >= 4
    assert found["seconds"] < 60  # the first group is always waited for
    unseen = SearchSpace.from_toml(SMALL).smallest_and_largest()[1]
    ms, sd = Predictor.load_or_none("onnxruntime", resolution=32).predict([unseen])
    assert 0 < sd[0] < ms[0] < 100
    assert main([*words[:-1], "--seconds", "1"]) == 0
    assert "networks known" in capsys.readouterr().out
    assert main(["calibrate", "--seconds", "0"]) == 2


def test_what_was_kept_when_the_machine_was_slower_is_rescaled() -> None:
    seen, unseen = drawn(40, 1), drawn(50, 2)
    found = Predictor.for_device("onnxruntime", resolution=64).fit(seen, 1.7 * device_ms(seen, 64))
    found.reference_ms = 1.7
    first, = drawn(1, 3)
    found.update([record(first, float(device_ms([first], 64)[0]), reference_ms=1.0)])
    error = np.abs(found.predict(unseen)[0] / device_ms(unseen, 64) - 1)
    assert error.mean() < 0.1
    assert found.reference_ms == 1.0
    found.save()
    again = Predictor.load_or_none("onnxruntime", resolution=64)
    assert again is not None
    assert again.reference_ms == 1.0
    assert again.predict(unseen)[0] == pytest.approx(found.predict(unseen)[0])


def test_a_network_that_fails_takes_no_others_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def one(config: FastViTConfig, device: str, **how: object) -> SimpleNamespace:
        if config.mixers[3] == "attention":
            raise Failure("no attention here")
        ms = float(device_ms([config], 64)[0])
        return SimpleNamespace(latency_ms=ms, ci_low_ms=0.98 * ms, ci_high_ms=1.02 * ms, relative_sd=0.01,
                               reference_ms=1.0)

    monkeypatch.setattr(calibrating, "measure", one)
    monkeypatch.setattr(calibrating, "measure_many",
                        lambda configs, device, **how: [one(config, device) for config in configs])
    found = calibrate("onnxruntime", Setting(64), seconds=5)
    assert found.failed > 10
    assert len(found.predictor.configs) > 10
    assert found.mape < 0.06
    monkeypatch.setattr(calibrating, "measure", lambda *args, **how: (_ for _ in ()).throw(Failure("broken")))
    monkeypatch.setattr(calibrating, "measure_many", calibrating.measure)
    with pytest.raises(Failure, match="broken"):
        calibrate("onnxruntime", Setting(96), seconds=5)


def test_an_interval_is_two_times_1_96_standard_deviations_wide() -> None:
    found = Predictor.for_device("onnxruntime", resolution=64)
    found.update([record(config, 1.0) for config in drawn(2, 1)])
    assert found.sd == pytest.approx([0.02 / 1.96] * 2)
