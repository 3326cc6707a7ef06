"""What a training shows while it runs: a bar with the time left, log.csv and TensorBoard."""

from __future__ import annotations

import csv
import io
import sys
from pathlib import Path
from typing import Any

from nas.files import write_atomic

CSV = "log.csv"


class Log:
    """Writes rows of finished epochs; `active` in one process only.

    log.csv is written anew with every epoch from the rows that the checkpoint holds, so that a training that
    was killed between the two leaves no row twice.
    """

    def __init__(self, work: Path, name: str, step: int, total: int, rows: list[dict[str, Any]], epoch_steps: int, *,
                 active: bool) -> None:
        self.work, self.name, self.first, self.total, self.active = work, name, step, total, active
        self.epochs = total // epoch_steps
        self.last = rows[-1] if rows else None
        self.bar: Any = None
        self.board: Any = None

    def __enter__(self) -> Log:
        if self.active:
            from tqdm import tqdm

            self.bar = tqdm(total=self.total, initial=self.first, unit="step", desc=self.name, file=sys.stderr,
                            disable=None, dynamic_ncols=True, mininterval=0.5)
            try:
                from torch.utils.tensorboard import SummaryWriter

                self.board = SummaryWriter(str(self.work / "tensorboard"), purge_step=self.first)
            except ImportError:
                print("no TensorBoard log: pip install tensorboard; log.csv holds the same", file=sys.stderr)
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()
        if self.board is not None:
            self.board.close()

    def step(self, step: int, loss: float) -> None:
        if self.bar is None:
            return
        self.bar.update(step - self.bar.n)
        if not self.bar.disable:
            top1 = "" if self.last is None else f", top-1 {self.last['val_top1']:.2f} %"
            self.bar.set_postfix_str(f"loss {loss:.3f}{top1}", refresh=False)

    def epoch(self, rows: list[dict[str, Any]]) -> None:
        self.last = row = rows[-1]
        if not self.active:
            return
        text = io.StringIO()
        writer = csv.DictWriter(text, list(row), lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: round(v, 6) if isinstance(v, float) and k != "lr" else v for k, v in one.items()}
                         for one in rows)
        write_atomic(self.work / CSV, text.getvalue())
        if self.board is not None:
            for key, value in row.items():
                if key not in ("epoch", "step"):
                    self.board.add_scalar(key.replace("val_", "val/").replace("train_", "train/"), value, row["step"])
            self.board.flush()
        left = (self.total - row["step"]) / row["step"] * sum(one["seconds"] for one in rows)
        line = (f"epoch {row['epoch']}/{self.epochs}: loss {row['train_loss']:.4f}, validation {row['val_loss']:.4f}, "
                f"top-1 {row['val_top1']:.2f} %, {row['images_per_s']:.0f} images/s, {_clock(left)} left")
        if self.bar is not None and not self.bar.disable:
            self.bar.write(line, file=sys.stderr)
        else:
            print(line, file=sys.stderr, flush=True)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
