"""Picture, charts, predictor and configurator of one configuration."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from dashboard import drawing
from dashboard.figures import detail
from dashboard.load import Reader, Snapshot
from dashboard.predict import Forecast
from dashboard.views.what_if import send
from dashboard.what_if import changed, choices
from fastvit.config import FastViTConfig
from fastvit.cost import cost
from fastvit.presets import PRESETS
from nas.runs.run import Run
from space import SearchSpace

SPACE = SearchSpace.load("default")
UNUSUAL = FastViTConfig(depths=(1, 1, 1, 1), widths=(16, 32, 64, 96), mlp_ratios=(1, 1, 1, 1), stem_stride=1,
                        mixers=("pool", "convmixer", "repmixer", "attention"), branches=0)


@pytest.fixture(scope="module")
def run(root: Path) -> Snapshot:
    return Reader(root / "demo").read()


@pytest.mark.parametrize("config", [*PRESETS.values(), UNUSUAL], ids=[*PRESETS, "unusual"])
def test_the_picture_shows_every_block(config: FastViTConfig) -> None:
    picture = ElementTree.fromstring(drawing.network(config, 256))
    rectangles = picture.findall("{*}rect")
    assert len(rectangles) == 2 + 2 * sum(config.depths)
    width = float(picture.attrib["viewBox"].split()[2])
    assert all(0 <= float(r.attrib["x"]) <= width - float(r.attrib["width"]) for r in rectangles)
    for stage in range(4):
        for form in ("train", "fused"):
            ElementTree.fromstring(drawing.block(config, stage, form))


def test_reparameterization_leaves_one_convolution() -> None:
    assert drawing.mixer_parts(PRESETS["t8"], 0, "fused") == [["3×3 depthwise"]]
    assert len(drawing.mixer_parts(PRESETS["t8"], 0, "train")[0]) == 4
    assert not any("BN" in label for config in (*PRESETS.values(), UNUSUAL) for stage in range(4)
                   for column in drawing.mixer_parts(config, stage, "fused") for label in column)


def test_shares_add_up() -> None:
    size = cost(PRESETS["sa12"], 64)
    rows = detail.stage_shares(size)
    assert sum(row["gmacs"] for row in rows) == pytest.approx(size.gmacs)
    assert len(detail.shares_figure(size).data) == 6
    assert "Most GMACs lie in stage" in detail.shares_words(size)


def test_charts_of_a_measured_trial(run: Snapshot) -> None:
    record = run.whole(next(r for r in run.records if r.outcome == "complete" and r.latency))
    assert record.latency is not None
    assert len(detail.samples_figure(record.latency).data) == 3
    assert "95 % interval" in detail.samples_words(record.latency)
    assert len(detail.curve_figure(record.curve, record.scores).data) == 2
    detail.samples_figure({"latency_ms": 1.0})
    detail.curve_figure([], [])


def test_what_confirming_found_is_said(run: Snapshot) -> None:
    record = next(r for r in run.records if r.confirmed)
    words = detail.confirmed_words(record)
    assert words.startswith("Confirmed by 3 seeds: score")
    assert f"{record.score:.3f}" in words
    assert "by the first." in words


def test_predictions_beat_the_null_and_say_so(run: Snapshot) -> None:
    known = Forecast.fit(run.meta, run.records)
    said = [float(word) for word in re.findall(r"(\d+\.\d+)(?= %| \(|\))", known.words)]
    assert len(said) == 4
    assert said[0] < said[1]  # latency, and by size alone
    assert said[2] < said[3]  # score, and always the mean
    near, far = known.guess([PRESETS["t8"], SPACE.corners()[1]])
    assert near["latency_ms"] == pytest.approx(1.0, rel=0.1)
    assert (far["latency_sd"] or 0) / (far["latency_ms"] or 1) > (near["latency_sd"] or 0) / (near["latency_ms"] or 1)
    assert (far["score_sd"] or 0) > (near["score_sd"] or 0) > 0


def test_too_few_trials_predict_nothing(run: Snapshot) -> None:
    known = Forecast.fit(run.meta, [])
    assert known.guess([PRESETS["t8"]])[0]["score"] is None
    assert "nothing can be predicted" in known.words
    once = [replace(r, confirmed=None) for r in run.records[:7]]
    some = Forecast.fit(run.meta, once)  # measured enough, trained too little
    assert some.guess([PRESETS["t8"]])[0]["latency_ms"] is not None
    assert some.guess([PRESETS["t8"]])[0]["score"] is None


def test_every_change_stays_in_the_space() -> None:
    rng = np.random.default_rng(0)
    config = PRESETS["t8"]
    for _ in range(150):
        options = choices(SPACE, config)
        choice = options[rng.integers(len(options))]
        assert choice.value in choice.options
        config = changed(SPACE, config, choice.field, choice.index, choice.options[rng.integers(len(choice.options))])
        assert config in SPACE


def test_a_configuration_is_sent_to_the_run_once(tmp_path: Path, run: Snapshot) -> None:
    from dashboard import demo

    made = demo.make(tmp_path / "run", 2)
    snapshot = Reader(made.path).read()
    config = PRESETS["t8"].replace(depths=(1, 2, 4, 2))
    for _ in range(2):
        assert "resume" in send(snapshot, SPACE, config)
    waiting = [t for t in Run.open(made.path).study.get_trials() if t.state.name == "WAITING"]
    assert len(waiting) == 1
    assert SPACE.suggest(Run.open(made.path).study.ask()) == config
