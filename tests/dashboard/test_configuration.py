"""Picture, charts, predictor and configurator of one configuration."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from dashboard import drawing
from dashboard.figures import detail
from dashboard.load import Reader, Snapshot
from dashboard.progress import queue_words
from dashboard.state import from_query
from dashboard.views.what_if import _figures, send
from dashboard.what_if import changed, changes, choices, with_changes
from fastvit.config import FastViTConfig
from fastvit.cost import cost
from fastvit.presets import PRESETS
from nas.estimate.forecast import Forecast, known
from nas.estimate.posterior import fit_posterior
from nas.runs.run import Run
from space import SearchSpace
from tests.nas.trials import measured

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
    beside = ElementTree.fromstring(drawing.network(config, 256, config))
    assert len(beside.findall("{*}rect")) == len(rectangles)
    width = float(picture.attrib["viewBox"].split()[2])
    assert all(0 <= float(r.attrib["x"]) <= width - float(r.attrib["width"]) for r in rectangles)
    for stage in range(4):
        for form in ("train", "fused"):
            ElementTree.fromstring(drawing.block(config, stage, form))


@pytest.mark.parametrize(("change", "stages", "words"), [
    ({"depths": (2, 2, 9, 2)}, 1, {"9 blocks, 192 channels"}), ({"patch_kernels": (3, 7, 7)}, 0, {"3×3 ↓2"}),
    ({"mixers": ("repmixer",) * 3 + ("attention",)}, 1, {"attention", "positional encoding 7×7"}),
    ({"ffn_kernels": (5, 7, 7, 3)}, 2, {"FFN 5×5, ratio 3", "FFN 3×3, ratio 3"})])
def test_the_picture_marks_what_differs(change: dict[str, Any], stages: int, words: set[str]) -> None:
    picture = ElementTree.fromstring(drawing.network(PRESETS["t8"].replace(**change), 256, PRESETS["t8"]))
    assert len([r for r in picture.findall("{*}rect") if r.get("class") == "differs"]) == stages
    assert {t.text for t in picture.findall("{*}text") if t.get("text-decoration")} == words


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
    detail.samples_figure(measured(1.0))
    detail.curve_figure([], [])


def test_what_confirming_found_is_said(run: Snapshot) -> None:
    record = next(r for r in run.records if r.confirmed)
    words = detail.confirmed_words(record)
    assert words.startswith("Confirmed by 3 seeds: score")
    assert f"{record.score:.3f}" in words
    assert "by the first." in words
    assert record.confirmed is not None
    preset = replace(record, confirmed=replace(record.confirmed, latency_before=record.latency))
    assert "All sessions" not in detail.confirmed_words(preset)  # it was trained again, and not measured again


def test_predictions_beat_the_null_and_say_so(run: Snapshot) -> None:
    known = Forecast.fit(run.meta, run.records)
    said = [float(word) for word in re.findall(r"(\d+\.\d+)(?= %| \(|\))", known.words())]
    assert len(said) == 4
    assert said[0] < said[1]  # latency, and by size alone
    assert said[2] < said[3]  # score, and always the mean
    near, far = known.guess([PRESETS["t8"], SPACE.smallest_and_largest()[1]])
    assert near["latency_ms"] == pytest.approx(1.0, rel=0.1)
    assert (far["latency_sd"] or 0) / (far["latency_ms"] or 1) > (near["latency_sd"] or 0) / (near["latency_ms"] or 1)
    assert (far["score_sd"] or 0) > (near["score_sd"] or 0) > 0


def test_what_if_shows_what_the_page_shows(run: Snapshot) -> None:
    """Of every trial the estimate and the latency that stand above; of every other configuration what the search's own
    fit predicts, from all of the evidence."""
    forecasts = Forecast.fit(run.meta, run.records)
    for record in run.records:
        if record.outcome == "complete" and record.config and record.score is not None:
            shown = _figures(record.architecture, forecasts, run)
            best = known(run.records, record.architecture)
            assert best is not None
            assert best.estimate is not None
            assert (shown["score"], shown["score_sd"]) == (best.estimate.value, best.estimate.sd)
            assert shown["latency_ms"] == best.latency_ms
    other = PRESETS["t8"].replace(depths=(1, 2, 4, 3))
    assert known(run.records, other) is None
    mean, sd = fit_posterior(run.meta, run.records).predict([other])
    shown = _figures(other, forecasts, run)
    assert (shown["score"], shown["score_sd"], shown["score_from"]) == (mean[0], sd[0], "predicted")


def test_a_change_survives_its_address() -> None:
    rng = np.random.default_rng(1)
    for _ in range(40):
        start, config = SPACE.sample(rng), SPACE.sample(rng)
        said = changes(config, start)
        assert from_query({"change": list(said)}, []).change == said
        assert with_changes(SPACE, start, said) == config
    assert with_changes(SPACE, PRESETS["t8"], ()) == PRESETS["t8"]
    for bad in ("depths3:99", "widths1:abc", "nothing1:3", "patch_kernels4:3", "mixers4:attention"):
        assert with_changes(SPACE, PRESETS["t8"].replace(widths=(48, 96, 192, 376)), (bad,)) is None


def test_too_few_trials_predict_nothing(run: Snapshot) -> None:
    known = Forecast.fit(run.meta, [])
    assert known.guess([PRESETS["t8"]])[0]["score"] is None
    assert "nothing can be predicted" in known.words()
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
    queue = Reader(made.path).read().queue
    assert [(w.trial, w.words, w.why) for w in queue] == [
        (waiting[0].number, config.describe(), "sent from the dashboard")]
    assert "1 waiting, 1 of them sent from here" in queue_words(Reader(made.path).read())
    assert SPACE.suggest(Run.open(made.path).study.ask()) == config


def test_all_figures_and_what_the_best_chose(run: Snapshot) -> None:
    from dashboard.figures.parallel import (
        AT_LEAST,
        distributions,
        distributions_figure,
        distributions_words,
        parallel_figure,
    )

    figure = parallel_figure(run.records, 64, 10)
    assert figure is not None
    assert len({len(axis["values"]) for axis in figure.data[0].dimensions}) == 1
    assert parallel_figure(run.records[:1], 64, 10) is None
    found, count = distributions(run.records, SPACE, 1.5)
    assert count >= AT_LEAST
    for options in found:
        assert sum(one.best for one in options) == pytest.approx(1)
        assert sum(one.every for one in options) == pytest.approx(1)
    shifts = [sum(abs(one.best - one.every) for one in options) for options in found]
    assert shifts == sorted(shifts, reverse=True)
    assert len(distributions_figure(found).data) == 2
    assert f"Of the {count} best" in distributions_words(found, count, 1.5)
    assert distributions(run.records, SPACE, 0.01) == ([], 0)
    assert "Too few" in distributions_words([], 0, 0.01)
