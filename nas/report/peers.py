"""Should it be FastViT at all? Other networks measured on this device, beside the top-1 that was published of them.

Two kinds of numbers that are never mixed: a latency is measured here, of random weights, each network at the resolution
it was published for; a top-1 was published, by whom the table says, with a recipe of its authors' own. Nothing is
trained here.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fastvit.config import FastViTConfig
from fastvit.presets import PRESETS
from fastvit.published import PEERS, Published, published
from nas.errors import Failure, NotAvailable
from nas.latency import Measurement
from nas.runs.budget import meets_budget

BESIDE = 1.15  # times the budget: how far above it the nearest network is still named


@dataclass(frozen=True)
class Figure:
    """A published ImageNet-1k top-1 in percent, at the resolution that the network is measured at."""

    top1: float
    source: str
    note: str


@dataclass(frozen=True)
class Peer:
    """One network: what was published, and what this device says. `measured` is None where that failed or time ran out;
    `why` then says which."""

    name: str
    target: FastViTConfig | str
    resolution: int
    params_m: float | None
    gmacs: float | None
    plain: Figure | None
    distilled: Figure | None
    is_fastvit: bool
    measured: Measurement | None = None
    why: str = ""

    def figure(self, distilled: bool) -> Figure | None:
        return self.distilled if distilled else self.plain

    def meets(self, budget_ms: float) -> bool:
        """Under the budget beyond doubt, as on a run's front: the whole interval."""
        return self.measured is not None and bool(meets_budget(self.measured.ci_high_ms, budget_ms))


def peers() -> list[Peer]:
    """The presets and their peers, not measured yet."""
    named: list[tuple[FastViTConfig | str, str]] = [(config, f"FastViT-{name.upper()}")
                                                    for name, config in PRESETS.items()]
    named += [(f"timm:{name}", model) for name, model in PEERS.items()]
    return [_peer(target, model) for target, model in named]


def _peer(target: FastViTConfig | str, model: str) -> Peer:
    rows = [row for row in published() if row.model == model and row.top1 is not None and row.resolution]
    if not rows:
        raise ValueError(f"{model}: published.csv has no top-1 with a resolution")
    assert rows[0].resolution is not None
    side = rows[0].resolution

    def figure(distilled: bool) -> Figure | None:
        found = [row for row in rows if row.distilled == distilled and row.resolution == side]
        return Figure(found[0].top1 or 0.0, found[0].source, found[0].note) if found else None

    def first(pick: Callable[[Published], float | None]) -> float | None:
        return next((value for row in rows if (value := pick(row)) is not None), None)

    return Peer(model, target, side, first(lambda row: row.params_m), first(lambda row: row.gmacs), figure(False),
                figure(True), isinstance(target, FastViTConfig))


def measured(networks: Sequence[Peer], budget_ms: float, measure: Callable[[Peer], Measurement], seconds: float,
             tell: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> list[Peer]:
    """The networks with what the device says, in the order given; those nearest to the budget are measured first.

    Args:
        measure: measures one network.
        seconds: no measurement begins later than that; the first always does.
        tell: hears a line for each network.

    Raises:
        NotAvailable: the device is missing.
    """
    begun = clock()
    found: dict[str, Peer] = {}
    rate = 0.0  # milliseconds a GMAC, of the first network: a rough order is all that is needed
    left = list(networks)
    while left:
        def distance(peer: Peer, rate: float = rate) -> float:
            return abs(math.log(peer.gmacs * rate / budget_ms)) if peer.gmacs and rate else 0.0

        peer = left.pop(left.index(min(left, key=distance)))
        if found and clock() - begun > seconds:
            found[peer.name] = _with(peer, None, "not measured: the time was up")
            continue
        try:
            one = measure(peer)
        except NotAvailable:
            raise
        except Failure as error:
            found[peer.name] = _with(peer, None, str(error).splitlines()[0])
            tell(f"{peer.name}: {found[peer.name].why}")
            continue
        found[peer.name] = _with(peer, one, "")
        if not rate and peer.gmacs:
            rate = one.latency_ms / peer.gmacs
        tell(f"{len(found)} of {len(networks)}: {peer.name} {one.latency_ms:.2f} ms at {peer.resolution} px")
    return [found[peer.name] for peer in networks]


def _with(peer: Peer, one: Measurement | None, why: str) -> Peer:
    from dataclasses import replace

    return replace(peer, measured=one, why=why)


def best(networks: Sequence[Peer], budget_ms: float, *, distilled: bool, fastvit: bool) -> Peer | None:
    """The highest published top-1 among those under the budget, of FastViT's presets or of the others."""
    under = [peer for peer in networks if peer.is_fastvit == fastvit and peer.figure(distilled)
             and peer.meets(budget_ms)]
    return max(under, key=lambda peer: (_top1(peer, distilled), -_ms(peer)), default=None)


def _top1(peer: Peer, distilled: bool) -> float:
    figure = peer.figure(distilled)
    assert figure is not None
    return figure.top1


def _ms(peer: Peer) -> float:
    assert peer.measured is not None
    return peer.measured.latency_ms


def _words(peer: Peer, distilled: bool) -> str:
    return f"{peer.name} ({_ms(peer):.2f} ms here, {_top1(peer, distilled):.1f} published)"


def verdict(networks: Sequence[Peer], budget_ms: float) -> list[str]:
    """The answer in sentences: networks trained without a teacher and with one apart, honest where FastViT loses."""
    lines = []
    for distilled, how in ((False, "Trained without a teacher"), (True, "Trained with a teacher")):
        ours, theirs = (best(networks, budget_ms, distilled=distilled, fastvit=own) for own in (True, False))
        if ours is not None and theirs is not None:
            gap = _top1(ours, distilled) - _top1(theirs, distilled)
            won = (f"FastViT is ahead by {gap:.1f} points" if gap > 0.05 else
                   f"FastViT is behind by {-gap:.1f} points" if gap < -0.05 else "they are level")
            text = (f"{how}, under {budget_ms:g} ms: {_words(theirs, distilled)} against {_words(ours, distilled)}; "
                    f"{won}.")
            faster = [peer for peer in networks if not peer.is_fastvit and peer.figure(distilled) and peer.measured
                      and peer.measured.ci_high_ms < _interval_low(ours) and _top1(peer, distilled)
                      >= _top1(ours, distilled)]
            if faster:
                names = ", ".join(_words(peer, distilled) for peer in sorted(faster, key=_ms)[:3])
                text += f" Faster than {ours.name} beyond doubt and published no worse: {names}"
                text += f" and {len(faster) - 3} more." if len(faster) > 3 else "."
            lines.append(text)
        elif theirs is not None:
            lines.append(f"{how}, under {budget_ms:g} ms: {_words(theirs, distilled)}; no FastViT preset is that fast"
                         f"{_nearest(networks, budget_ms, distilled)}.")
        elif ours is not None:
            lines.append(f"{how}, under {budget_ms:g} ms: {_words(ours, distilled)}; none of the others is that fast.")
        else:
            lines.append(f"{how}: no network measured is under {budget_ms:g} ms beyond doubt"
                         f"{_nearest(networks, budget_ms, distilled)}.")
    return lines


def _interval_low(peer: Peer) -> float:
    assert peer.measured is not None
    return peer.measured.ci_low_ms


def _nearest(networks: Sequence[Peer], budget_ms: float, distilled: bool) -> str:
    """The fastest FastViT, in words, where none meets the budget."""
    ours = [peer for peer in networks if peer.is_fastvit and peer.measured and peer.figure(distilled)]
    if not ours:
        return ""
    fastest = min(ours, key=_ms)
    near = "; it is close" if _ms(fastest) <= BESIDE * budget_ms else ""
    return f" (the fastest is {_words(fastest, distilled)}{near}; a search finds narrower ones)"
