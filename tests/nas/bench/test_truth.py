"""Rows of real images: made, gone on with, and not made twice."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fastvit import FastViTConfig
from nas.bench.__main__ import main
from nas.bench.real_images import truth_rows
from nas.bench.truth import read_images, train_whole
from nas.errors import UsageError

TINY = FastViTConfig(depths=(1, 1, 1, 1), widths=(8, 16, 16, 32), mlp_ratios=(2, 2, 2, 2),
                     mixers=("repmixer", "repmixer", "repmixer", "attention"), head_dim=16)


@pytest.fixture
def colours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two classes that differ in their colour."""
    monkeypatch.setenv("FASTVIT_EXPLORER_CACHE", str(tmp_path / "cache"))
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    for part, count in (("train", 40), ("test", 10)):
        for channel, name in enumerate(("red", "green")):
            folder = tmp_path / "colours" / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                image = rng.integers(0, 100, (32, 32, 3), np.uint8)
                image[:, :, channel] += 120
                Image.fromarray(image).save(folder / f"{number}.png")
    return tmp_path / "colours"


def test_goes_on_as_if_it_had_never_stopped(colours: Path, tmp_path: Path) -> None:
    images = read_images(colours, 32)
    whole = train_whole(TINY, images, steps=4)
    checkpoint = tmp_path / "begun.pt"
    assert train_whole(TINY, images, steps=4, checkpoint=checkpoint, until=0.0) is None
    assert checkpoint.exists()
    rest = train_whole(TINY, images, steps=4, checkpoint=checkpoint)
    assert whole is not None
    assert rest is not None
    assert (rest.top1, rest.se) == (whole.top1, whole.se)
    assert not checkpoint.exists()


def test_the_command_adds_each_row_once(colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                        capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tiny.json").write_text(TINY.to_json())
    table = tmp_path / "rows.jsonl"
    monkeypatch.setattr(sys, "argv", ["bench", "truth", str(tmp_path / "tiny.json"), "--data", str(colours), "--pixels",
                                      "32", "--steps", "3", "--seeds", "0,1", "--table", str(table)])
    for _ in range(2):
        main()
    truth_rows.cache_clear()
    rows = truth_rows(table)
    assert [row.seed for row in rows] == [0, 1]
    assert {row.config for row in rows} == {TINY}
    assert {(row.task, row.px, row.steps, row.images, row.classes) for row in rows} == {("colours", 32, 3, 80, 2)}
    assert len({row.protocol for row in rows}) == 1
    with table.open("a") as file:
        file.write('{"cut off')
    truth_rows.cache_clear()
    assert len(truth_rows(table)) == 2


def test_a_folder_without_test_images(tmp_path: Path, colours: Path) -> None:
    with pytest.raises(UsageError, match="expected train/ and test/"):
        read_images(tmp_path, 32)
