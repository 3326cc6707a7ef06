"""What one browser tab looks at: its view, the runs it opened, and the widgets that are bound to the view."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import streamlit as st

from dashboard.load import Snapshot, snapshot
from dashboard.state import MAX_COMPARED, ROOT, RUN, Ref, View, find_runs, from_query, why_not_together
from dashboard.text import plain
from fastvit.config import FastViTConfig
from fastvit.presets import PRESETS
from nas.errors import UsageError
from nas.runs.run import TrialRecord


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
    names = list(find_runs(root()))
    found = from_query(query, names)
    st.session_state["view"] = found if found.runs else found.replace(runs=first(names))


def first(names: Collection[str]) -> tuple[str, ...]:
    """What is open when an address names no run: the one that the command named, or else the newest, if any."""
    wanted = os.environ.get(RUN, "")
    return (wanted,) if wanted in names else tuple(names)[:1]


def _query() -> dict[str, list[str]]:
    return {key: st.query_params.get_all(key) for key in st.query_params}


def view() -> View:
    found: View = st.session_state["view"]
    return found


def update(**changes: Any) -> None:
    st.session_state["view"] = view().replace(**changes)
    touch()


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
        st.session_state["held"] = {run.name: run for run in opened()}


def opened() -> list[Snapshot]:
    """The chosen runs as they stand now, as far as they may share axes; says why one may not or cannot be read."""
    known, found = find_runs(root()), []
    held = st.session_state.get("held", {})
    for name in view().runs:
        try:
            if name in known:
                found.append(held[name] if name in held else snapshot(known[name]))
        except UsageError as error:
            st.error(plain(error), icon=":material/error:")
    while len(found) > 1 and (why := why_not_together({s.name: s.meta for s in found})):
        st.warning(plain(why), icon=":material/info:")
        found = [s for s in found if why_not_together({found[0].name: found[0].meta, s.name: s.meta}) is None]
    return found


def focus() -> Snapshot:
    """The run in focus, the first chosen; ends the page with a sentence when there is none."""
    found = opened()
    if not found:
        st.info(f"No run is chosen. Runs are looked for in {plain(root())}; `python search.py --budget-ms 2` starts "
                "one.")
        st.stop()
    return found[0]


def budget(of: Snapshot) -> float:
    return view().budget_ms or float(of.meta["budget_ms"])


def pick(ref: Ref | None) -> None:
    update(pick=ref)


def go(page: str, ref: Ref | None = None) -> None:
    """Turn to a page, and to a configuration if one is named."""
    update(page=page, pick=ref or view().pick)


def compare(ref: Ref) -> None:
    """Add to the comparison; of too many, the oldest goes."""
    kept = [one for one in view().compare if one != ref]
    update(compare=tuple([*kept, ref][-MAX_COMPARED:]))


def resolve(ref: Ref, runs: list[Snapshot]) -> tuple[FastViTConfig, TrialRecord | None] | None:
    """The configuration of a reference and its record; a preset's record is the anchor measured in the first run."""
    if not ref.run:
        anchors = [r for r in runs[0].records if r.preset == ref.name] if runs else []
        return PRESETS[ref.name], anchors[0] if anchors else None
    for run in runs:
        if run.name == ref.run:
            record = run.by_trial.get(ref.trial if ref.trial is not None else -1)
            if record is not None and record.config is not None:
                return FastViTConfig.from_dict(record.config), record  # load.py has tried it
    return None


def label(ref: Ref, runs: list[Snapshot]) -> str:
    if not ref.run:
        return ref.name.upper()
    found = resolve(ref, runs)
    preset = found[1].preset if found and found[1] else None
    name = f"trial {ref.name}" if len(runs) < 2 else f"{ref.run}, trial {ref.name}"
    return f"{name} ({preset.upper()})" if preset else name
