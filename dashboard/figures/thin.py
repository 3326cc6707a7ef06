"""Fewer points for a browser where many lie over one another."""

from __future__ import annotations

import numpy as np

MANY = 1000  # points that a chart draws without delay; more of them cost seconds, by SVG and by WebGL alike
_CELLS = np.array([110, 70])  # as many as a marker is wide and high


def thinned(x: np.ndarray, y: np.ndarray, window: tuple[float, float, float, float] | None = None) -> np.ndarray:
    """Places of the points to draw: all, or of more than MANY one for each small cell of the plane, the latest.

    `window` is the shown part of the plane, x from and to, y from and to; what lies outside is left out then.
    """
    known = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    if len(known) <= MANY:
        return known
    points = np.array([x[known], y[known]], float).T
    low, high = ((np.array(window[::2]), np.array(window[1::2])) if window
                 else (points.min(0), points.max(0)))
    share = (points - low) / np.maximum(high - low, 1e-12)
    shown = np.flatnonzero(((share >= 0) & (share <= 1)).all(1))[::-1]
    kept, cells = shown, _CELLS
    while len(kept) > MANY:
        _, first = np.unique(np.floor(share[shown] * cells), axis=0, return_index=True)
        kept, cells = shown[first], cells * 0.85
    return np.asarray(known[np.sort(kept)])
