"""What one browser tab looks at: its view, the runs it opened, and the widgets that are bound to the view."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import streamlit as st

from dashboard.load import Snapshot, snapshot
from dashboard.state import MAX_COMPARED, ROOT, RUN, Ref, View, find_runs, from_query, why_not_together
from dashboard.text import plain
from fastvit.config import FastViTConfig
from fastvit.presets import PRESETS
from nas.errors import UsageError
from nas.report.recommendation import Limits, Recommendation, recommend
from nas.runs.run import Trial


def root() -> Path:
    return Path(os.environ.get(ROOT) or "runs")


def begin() -> None:
    """Take the view from the URL when the tab opens, and again when the reader goes back or forward.

    In between the URL follows the view. A widget may be changed before the last URL has reached the browser, so a
    run that a widget began never takes an address that is merely late.
    """
    query = _query()
    touched = st.session_state.pop("touched", False)
    if "view" in st.session_state and (touched or query == st.session_state.get("written")):
        return
    known = find_runs(root())
    found = from_query(query, known)
    st.session_state["view"] = found if found.runs or found.gone else found.replace(runs=first(known))


def first(known: Mapping[str, Path]) -> tuple[str, ...]:
    """What is open when an address names no run: the one that the command named, or else the newest that can be
    read, if any; the newest of all where none can, so that the page says why."""
    wanted = os.environ.get(RUN, "")
    if wanted in known:
        return (wanted,)
    return next(((name,) for name, path in known.items() if unreadable(path) is None), tuple(known)[:1])


def unreadable(path: Path) -> str | None:
    """Why a run cannot be shown, in a sentence; None when it can."""
    try:
        snapshot(path)
    except UsageError as error:
        return str(error)
    return None


def _query() -> dict[str, list[str]]:
    return {key: st.query_params.get_all(key) for key in st.query_params}


def view() -> View:
    found: View = st.session_state["view"]
    return found


def update(**changes: Any) -> None:
    st.session_state["view"] = view().replace(**changes)
    touch()


def keep(**changes: Any) -> None:
    """Set what a page has worked out itself; nothing that a reader did."""
    st.session_state["view"] = view().replace(**changes)


def touch() -> None:
    """The next run of the script was not begun by going back or forward."""
    st.session_state["touched"] = True


def write_url() -> None:
    """Make the address bar a link to what is shown."""
    query = {key: [value] if isinstance(value, str) else value for key, value in view().to_query().items()}
    if _query() != query:
        st.query_params.from_dict(query)
    st.session_state["written"] = query


def settle() -> None:
    """The end of a fragment's own run: the address follows, and the next run may be going back or forward again."""
    st.session_state.pop("touched", None)
    write_url()


def bound(widget: Callable[..., Any], label: str, field: str, *, key: str | None = None,
          to: Callable[[Any], Any] = lambda value: value, value: Any = ..., also: dict[str, Any] | None = None,
          **options: Any) -> Any:
    """A widget that shows `field` of the view (or `value`) and changes it; `to` turns its value into the field's, and
    `also` are changes that come with it.

    The view decides and the widget follows, so that a link, another widget or another page may change it too.
    """
    key = key or f"view_{field}"
    st.session_state[key] = getattr(view(), field) if value is ... else value

    def take() -> None:
        update(**{field: to(st.session_state[key])}, **(also or {}))

    return widget(label, key=key, on_change=take, **options)


def paused() -> bool:
    return "held" in st.session_state


def pause(on: bool) -> None:
    """Hold the chosen runs as they stand, or let them go on."""
    st.session_state.pop("held", None)
    if on:
        st.session_state["held"] = {run.name: run for run in opened()[0]}


def opened() -> tuple[list[Snapshot], list[str]]:
    """The chosen runs as they stand now, as far as they may share axes; and why others are not among them or are not
    whole, a sentence each."""
    known, found = find_runs(root()), []
    held = st.session_state.get("held", {})
    said = [f"{name} is not below {root()}: the run that this link names was moved, renamed or removed."
            for name in view().gone]
    for name in view().runs:
        try:
            if name in known:
                found.append(held[name] if name in held else snapshot(known[name]))
        except UsageError as error:
            said.append(str(error))
    while len(found) > 1 and (why := why_not_together({s.name: s.meta for s in found})):
        said.append(why)
        found = [s for s in found if why_not_together({found[0].name: found[0].meta, s.name: s.meta}) is None]
    return found, said + [f"{run.name}: {run.missing}" for run in found if run.missing]


def chosen() -> list[Snapshot]:
    """As `opened`, the run in focus first, with what there is to say; ends the page where no run can be shown."""
    found, said = opened()
    for sentence in said:
        st.warning(plain(sentence), icon=":material/warning:")
    if not found:
        known = find_runs(root())
        others = f"Choose one of the {len(known)} runs in" if known else "Runs are looked for in"
        st.info(f"No run is open. {others} {plain(root())}; `python search.py --budget-ms 2` starts one.")
        st.stop()
    if any(run.meta.synthetic for run in found):
        st.caption(":orange-badge[demonstration: every figure comes from a formula]")
    return found


def budget(of: Snapshot) -> float:
    return view().budget_ms or of.meta.budget_ms


def limits() -> Limits:
    return Limits(**dict(view().limits))


@st.cache_resource(show_spinner=False, max_entries=64)
def _recommended(version: str, budget_ms: float, asked: Limits, against: str, _run: Snapshot
                 ) -> Recommendation | None:
    return recommend(_run.records, budget_ms, resolution=_run.meta.resolution,
                     num_classes=_run.meta.num_classes, limits=asked, against=against)


def recommended(run: Snapshot) -> Recommendation | None:
    """The run's pick under the view's budget and limits."""
    return _recommended(f"{run.path} {run.version}", budget(run), limits(), view().against, run)


def pick(ref: Ref | None) -> None:
    update(pick=ref, change=())


def go(page: str, ref: Ref | None = None) -> None:
    """Turn to a page, and to a configuration if one is named."""
    update(page=page, pick=ref or view().pick, change=() if ref else view().change)


def compare(ref: Ref) -> None:
    """Add to the comparison; of too many, the oldest goes."""
    kept = [one for one in view().compare if one != ref]
    update(compare=tuple([*kept, ref][-MAX_COMPARED:]))


def resolve(ref: Ref, runs: list[Snapshot]) -> tuple[FastViTConfig, Trial | None] | None:
    """The configuration of a reference and its record; a preset's record is the anchor measured in the first run."""
    if not ref.run:
        anchors = [r for r in runs[0].records if r.preset == ref.name] if runs else []
        return PRESETS[ref.name], anchors[0] if anchors else None
    for run in runs:
        if run.name == ref.run:
            record = run.by_trial.get(ref.trial if ref.trial is not None else -1)
            if record is not None and record.config is not None:
                return record.config, record
    return None


def label(ref: Ref, runs: list[Snapshot]) -> str:
    if not ref.run:
        return ref.name.upper()
    found = resolve(ref, runs)
    preset = found[1].preset if found and found[1] else None
    name = f"trial {ref.name}" if len(runs) < 2 else f"{ref.run}, trial {ref.name}"
    return f"{name} ({preset.upper()})" if preset else name
