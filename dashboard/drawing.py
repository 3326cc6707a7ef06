"""An architecture as a picture (SVG), drawn from its configuration. Text takes the page's own colour."""

from __future__ import annotations

from dashboard.figures.palette import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION
from fastvit.config import FastViTConfig

MIXERS = {"repmixer": ("RepMixer", BLUE), "attention": ("attention", ORANGE), "pool": ("pooling", GREEN),
          "convmixer": ("ConvMixer", PURPLE)}
_COLUMN, _HEIGHT, _TOP = 210, 150, 6


def _text(x: float, y: float, words: str, *, size: int = 13, anchor: str = "middle", weight: str = "normal",
          opacity: float = 1.0, marked: bool = False) -> str:
    under = ' text-decoration="underline"' if marked else ""
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" font-weight="{weight}" '
            f'fill="currentColor" fill-opacity="{opacity}"{under}>{words}</text>')


def _box(x: float, y: float, width: float, height: float, colour: str, *, fill: float = 0.22) -> str:
    return (f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="3" fill="{colour}" '
            f'fill-opacity="{fill}" stroke="{colour}" stroke-width="1.3"/>')


def _arrow(x0: float, x1: float, y: float) -> str:
    return (f'<path d="M{x0:.1f} {y:.1f}H{x1 - 5:.1f}" stroke="currentColor" stroke-opacity="0.5" fill="none"/>'
            f'<path d="M{x1 - 6:.1f} {y - 4:.1f}l6 4l-6 4z" fill="currentColor" fill-opacity="0.5"/>')


def _svg(width: float, height: float, label: str, parts: list[str]) -> str:
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" role="img" '
            f'aria-label="{label}" style="width:100%;min-width:{min(width, 560):.0f}px;max-width:{width:.0f}px;'
            'height:auto;font-family:inherit">'
            f'<title>{label}</title>{"".join(parts)}</svg>')


def _map(config: FastViTConfig, stage: int, resolution: int) -> int:
    side = resolution
    for _ in range(config.strides[stage].bit_length() - 1):
        side = (side + 1) // 2
    return side


def network(config: FastViTConfig, resolution: int, base: FastViTConfig | None = None) -> str:
    """The whole network from left to right: one bar a block, as high as the square root of its channels.

    The upper part of a bar is the token mixer, the lower part the ConvFFN, larger where its ratio is. What differs from
    `base` is bold and underlined, and a dashed frame stands around a stage that differs.
    """
    scale = (_HEIGHT - 20) / max(640, *config.widths) ** 0.5
    middle = _TOP + _HEIGHT / 2
    parts = [_box(0, middle - 40, 52, 80, GREY), _text(26, middle - 2, "stem"),
             _text(26, middle + 14, f"↓{config.stem_stride}", size=12, opacity=0.8)]
    right = 52.0
    pitch = min(34.0, max(12.0, 560 / sum(config.depths)))
    for stage, depth in enumerate(config.depths):
        start = right + (58 if stage else 24)
        if stage:
            kernel = config.patch_kernels[stage - 1]
            other = base is not None and base.patch_kernels[stage - 1] != kernel
            parts.append(_text((right + start) / 2 - 2, middle - 8, f"{kernel}×{kernel} ↓2", size=11, opacity=0.85,
                               weight="bold" if other else "normal", marked=other))
        parts.append(_arrow(right + 4, start - 4, middle))
        span = max(depth * pitch, 26.0)
        height, share = 20 + scale * config.widths[stage] ** 0.5, 1 / (1 + config.mlp_ratios[stage] / 2)
        for number in range(depth):
            x, y = start + (span - depth * pitch) / 2 + number * pitch, middle - height / 2
            parts += [_box(x, y, pitch - 4, height * share, MIXERS[config.mixers[stage]][1], fill=0.55),
                      _box(x, y + height * share, pitch - 4, height * (1 - share), SKY)]
        lines = _caption(config, stage, resolution)
        theirs = lines if base is None else _caption(base, stage, resolution)
        differs = [line not in theirs for line in lines]
        if any(differs) or len(lines) != len(theirs):
            parts.append(f'<rect x="{start - 5:.1f}" y="{middle - height / 2 - 5:.1f}" width="{span + 6:.1f}" '
                         f'height="{height + 10:.1f}" rx="5" fill="none" stroke="{VERMILION}" stroke-width="1.8" '
                         'stroke-dasharray="5 3" class="differs"/>')
        # Captions are wider than a short stage: they stand in four columns of their own, joined by a line.
        column = 130 + stage * _COLUMN
        parts.append(f'<path d="M{start + span / 2:.1f} {middle + height / 2 + 4:.1f}V{_TOP + _HEIGHT + 6}'
                     f'L{column} {_TOP + _HEIGHT + 26}" fill="none" stroke="currentColor" stroke-opacity="0.35"/>')
        parts += [_text(column, _TOP + _HEIGHT + 42 + 17 * i, line, size=13 if i == 0 else 12,
                        weight="bold" if i == 0 or differs[i] else "normal", opacity=0.95, marked=differs[i])
                  for i, line in enumerate(lines)]
        right = start + span
    parts += [_arrow(right + 4, right + 28, middle), _box(right + 30, middle - 40, 52, 80, GREY),
              _text(right + 56, middle + 4, "head")]
    width = max(right + 84, 130 + 3 * _COLUMN + 100)
    return _svg(width, _TOP + _HEIGHT + 134, "Architecture: " + config.describe(), parts)


def _caption(config: FastViTConfig, stage: int, resolution: int) -> list[str]:
    name, depth, size = MIXERS[config.mixers[stage]][0], config.depths[stage], _map(config, stage, resolution)
    kernel, ffn = config.mixer_kernels[stage], config.ffn_kernels[stage]
    lines = [f"stage {stage + 1}", f"{depth} block{'s' if depth > 1 else ''}, {config.widths[stage]} channels",
             name if config.mixers[stage] == "attention" else f"{name} {kernel}×{kernel}",
             f"FFN {ffn}×{ffn}, ratio {config.mlp_ratios[stage]:g}", f"map {size}×{size}"]
    if config.has_cpe[stage]:
        lines.append(f"positional encoding {config.cpe_kernel}×{config.cpe_kernel}")
    return lines


Columns = list[list[str]]


def mixer_parts(config: FastViTConfig, stage: int, form: str) -> Columns:
    """Columns of parallel operations of a stage's token mixer in its "train" or its "fused" form."""
    mixer, kernel, train = config.mixers[stage], config.mixer_kernels[stage], form == "train"
    size = f"{kernel}×{kernel}"
    if mixer == "repmixer":
        if not train:
            return [[f"{size} depthwise"]]
        if not config.branches:
            return [[f"{size} depthwise, BN"], ["× γ"], ["+ x"]]
        return [[*([f"{size} depthwise, BN"] * config.branches), "1×1 depthwise, BN", "BN", "− BN"], ["× γ"], ["+ x"]]
    if mixer == "attention":
        heads = config.widths[stage] // config.head_dim
        core = [["1×1 to q, k, v"], [f"softmax, {heads} head{'s' if heads > 1 else ''}"], ["1×1"]]
        return [["BN"], *core, ["× γ"], ["+ x"]] if train else [*core, ["+ x"]]
    if mixer == "pool":
        return [["BN"], [f"{size} mean", "− identity"], ["× γ"], ["+ x"]] if train else [
            [f"{size} mean", "− identity"], ["× gain"], ["+ x"]]
    return [[f"{size} depthwise"], ["GELU"], ["BN" if train else "1×1 depthwise"], ["+ x"]]


def ffn_parts(config: FastViTConfig, stage: int, form: str) -> Columns:
    kernel, width, hidden = config.ffn_kernels[stage], config.widths[stage], config.hidden_widths[stage]
    spatial = f"{kernel}×{kernel} depthwise" + (", BN" if form == "train" else "")
    scale = [["× γ"]] if form == "train" else []
    return [[spatial], [f"1×1, {width} to {hidden}"], ["GELU"], [f"1×1, {hidden} to {width}"], *scale, ["+ x"]]


def block(config: FastViTConfig, stage: int, form: str) -> str:
    """One block of a stage, operation by operation: parallel branches above one another."""
    rows = ((MIXERS[config.mixers[stage]], mixer_parts(config, stage, form)),
            (("ConvFFN", SKY), ffn_parts(config, stage, form)))
    parts, top, widest = [], 6.0, 0.0
    for (name, colour), columns in rows:
        height = max(len(column) for column in columns) * 34
        parts.append(_text(0, top + 12, name, anchor="start", weight="bold"))
        x, middle = 4.0, top + 22 + height / 2
        for column in columns:
            width = max(44.0, 7.4 * max(len(label) for label in column) + 14)
            parts.append(_arrow(x, x + 20, middle))
            x += 22
            y = middle - len(column) * 17
            if len(column) > 1:
                parts.append(f'<path d="M{x - 2:.1f} {y + 8:.1f}V{y + 34 * len(column) - 12:.1f}" '
                             'stroke="currentColor" stroke-opacity="0.5"/>')
            for index, label in enumerate(column):
                parts += [_box(x, y + 34 * index + 3, width, 27, colour),
                          _text(x + width / 2, y + 34 * index + 21, label)]
            x += width
        parts.append(_arrow(x, x + 20, middle))
        widest, top = max(widest, x + 24), top + 38 + height
    words = {"train": "while training", "fused": "as deployed"}[form]
    return _svg(max(widest, 560), top, f"A block of stage {stage + 1} {words}", parts)
