"""Configurations beside one another: what differs first, and what the differences of figures are worth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fastvit.config import FastViTConfig
from fastvit.cost import cost
from nas.report.recommendation import SURE, own_sd
from nas.runs.run import Trial


@dataclass(frozen=True)
class Column:
    """One of the compared: what it is called, its configuration, and its trial where the run has one."""

    label: str
    config: FastViTConfig
    record: Trial | None = None


@dataclass(frozen=True)
class Row:
    label: str
    values: tuple[str, ...]

    @property
    def differs(self) -> bool:
        return len(set(self.values)) > 1


MISSING = "not in this run"
_STAGES = (("depths", "blocks"), ("widths", "channels"), ("mixers", "mixer"), ("mixer_kernels", "mixer kernel"),
           ("mlp_ratios", "FFN ratio"), ("ffn_kernels", "FFN kernel"))
_OTHER = (("stem_stride", "stem stride"), ("head_dim", "channels of an attention head"),
          ("branches", "branches while training"))


def _show(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _latency(record: Trial | None) -> str:
    if record is None or record.latency_ms is None:
        return MISSING
    if record.latency is None or record.origin != "measured":
        return f"{record.latency_ms:.3f} ms, predicted"
    return f"{record.latency_ms:.3f} ms [{record.latency.ci_low_ms:.3f}, {record.latency.ci_high_ms:.3f}]"


def _score(record: Trial | None) -> str:
    shown = record.estimate if record is not None else None
    return MISSING if shown is None else f"{shown.value:.3f}" + (f" ± {shown.sd:.3f}" if shown.sd else "")


def figures(columns: Sequence[Column], resolution: int, classes: int, unit: str) -> list[Row]:
    """Latency, score and size of each, as the run measured them and as closed forms say."""
    sizes = [cost(column.config, resolution, classes) for column in columns]
    return [Row("latency [95 %]", tuple(_latency(column.record) for column in columns)),
            Row(unit, tuple(_score(column.record) for column in columns)),
            Row("state", tuple(MISSING if c.record is None else c.record.outcome.replace("_", " ") for c in columns)),
            Row("parameters", tuple(f"{size.params_m:.2f} M" for size in sizes)),
            Row("GMACs", tuple(f"{size.gmacs:.4f}" for size in sizes)),
            Row("activations", tuple(f"{size.activations_m:.2f} M" for size in sizes))]


def choices(columns: Sequence[Column]) -> list[Row]:
    """Every choice of the architecture, those that differ first; a kernel that attention ignores is a dash."""
    rows = []
    stages = max(column.config.stages for column in columns)
    for stage in range(stages):
        for name, label in _STAGES:
            values = tuple("–" if stage >= column.config.stages or (
                name == "mixer_kernels" and column.config.mixers[stage] == "attention")
                           else _show(getattr(column.config, name)[stage]) for column in columns)
            rows.append(Row(f"stage {stage + 1}: {label}", values))
        cpe = ["none" if stage >= c.config.stages or not c.config.has_cpe[stage] else
               f"{c.config.cpe_kernel}×{c.config.cpe_kernel}" for c in columns]
        rows.append(Row(f"stage {stage + 1}: positional encoding", tuple(cpe)))
    for index in range(stages - 1):
        rows.append(Row(f"patch embedding before stage {index + 2}: kernel", tuple(
            str(c.config.patch_kernels[index]) if index < c.config.stages - 1 else "–" for c in columns)))
    rows += [Row(label, tuple(_show(getattr(column.config, name)) for column in columns)) for name, label in _OTHER]
    return sorted(rows, key=lambda row: not row.differs)


def verdict(one: Column, base: Column) -> str:
    """How `one` stands to `base` in latency and score, and whether the difference is beyond doubt."""
    if one.record is None or base.record is None:
        return f"{one.label} and {base.label} were not both measured in this run."
    words = []
    a, b = one.record.latency, base.record.latency
    if a and b and a.origin == b.origin == "measured":
        change = a.latency_ms - b.latency_ms
        apart = a.ci_low_ms > b.ci_high_ms or a.ci_high_ms < b.ci_low_ms
        words.append(f"{abs(change):.3f} ms {'slower' if change > 0 else 'faster'} "
                     f"({100 * change / b.latency_ms:+.1f} %; the intervals {'are apart' if apart else 'overlap'})")
    score, other = one.record.estimate, base.record.estimate
    if score is not None and other is not None and one.record.outcome == base.record.outcome == "complete":
        error = math.hypot(own_sd(one.record), own_sd(base.record))
        change = score.value - other.value
        far = "beyond" if abs(change) > SURE * error else "within"
        beyond = f", {far} {SURE:g} standard deviations" if error else ""
        words.append(f"score {change:+.3f}" + (f" ± {error:.3f}" if error else "") + beyond)
    if not words:
        return f"{one.label} and {base.label} have no measured figure in common."
    return f"{one.label} against {base.label}: {'; '.join(words)}."
