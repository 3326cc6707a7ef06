"""Export: the chosen configuration as a folder that other tools load."""

from __future__ import annotations

import shlex
from pathlib import Path

import pandas as pd
import streamlit as st

from dashboard import exporting, session
from dashboard.exporting import Job, Written
from dashboard.figures.front import front_rows, refs
from dashboard.load import Snapshot
from dashboard.state import Ref
from dashboard.views import parts
from fastvit.presets import PRESETS
from nas.export.formats import FORMATS, format_named

REFRESH_S, DEFAULT_FORMATS = 0.7, ("timm", "onnx")


@st.cache_resource
def jobs() -> dict[Path, Job]:
    """The latest export of each run, shared by all tabs."""
    return {}


@st.cache_data(show_spinner=False)
def lacking() -> dict[str, str]:
    """What each format needs that this machine does not have."""
    return {name: why for name in FORMATS if (why := format_named(name).missing()) is not None}


def show() -> None:
    runs = session.chosen()
    run = runs[0]
    left, right = st.columns([5, 4], gap="large")
    with left:
        to = _form(runs, run)
    with right:
        _progress(run)
    if to is not None:
        _earlier(run, to)


def _form(runs: list[Snapshot], run: Snapshot) -> Path | None:
    """The choices, and the button that begins; the folder that exports go to, if it can be used."""
    view = session.view()
    rows = front_rows(run.shown, view.replace(x="latency_ms", y="score"), session.budget(run))
    front = [ref for text in refs(rows) if (ref := Ref.parse(text))]
    options = list(dict.fromkeys([*([view.pick] if view.pick else []), *front, *(Ref("", name) for name in PRESETS)]))
    pick = view.pick or (front[-1] if front else options[0])
    session.bound(st.selectbox, "Configuration: the chosen one, the front, the presets", "pick", key="export_pick",
                  options=options, value=pick, format_func=lambda ref: session.label(ref, runs))
    found = session.resolve(pick, runs)
    if found is None:
        st.info("That trial is not in the chosen runs, or it never got a configuration.")
        return None
    st.caption(parts.plain(found[0].describe()))
    proposed = f"fastvit_{pick.name}" if not pick.run else f"fastvit_trial{pick.name}"
    name = st.text_input("Name of the variant", value=proposed, max_chars=41, key=f"export_name_{pick}",
                         help="Small letters, digits and underscores; folder, module and timm model take it.")
    lacks = lacking()
    formats = st.pills("Formats", [one for one in FORMATS if one not in lacks], selection_mode="multi", wrap=True,
                       key="export_formats", default=[one for one in DEFAULT_FORMATS if one not in lacks])
    if lacks:
        with st.expander(f"{len(lacks)} formats cannot be written on this machine"):
            st.markdown("\n".join(f"- {parts.plain(one)} {parts.plain(why)}" for one, why in lacks.items()))
    folder = st.text_input("Folder below the run", value="exports", max_chars=61, key="export_folder")
    owner = next(r for r in runs if r.name == pick.run) if pick.run else run
    try:
        to = exporting.target(owner.path, folder)
    except ValueError as error:
        st.error(parts.plain(error))
        return None
    words, problem = [], ""
    try:
        words = exporting.words(owner.path, pick.trial, None if pick.run else pick.name, name, to, list(formats),
                                owner.meta.resolution)
    except ValueError as error:
        problem = str(error)
    if not problem and (to / name).exists():
        done = run.path in jobs() and jobs()[run.path].folder == to / name and jobs()[run.path].ok
        if done:
            done_words = parts.plain(f"{to / name} is written: see below. Another name exports again.")
            st.caption(f":material/check: {done_words}")
            return to
        problem = f"{to / name} exists and is never overwritten; choose another name"
    if problem:
        st.caption(f":material/error: {parts.plain(problem)}")
    else:
        st.caption("The same in a terminal:")
        parts.code("python search.py " + shlex.join(words))
    busy = run.path in jobs() and jobs()[run.path].running
    st.button("Export", type="primary", key="export_start", disabled=bool(problem) or busy,
              on_click=_start, args=(run, words, to / name, list(formats)))
    return to


def _start(run: Snapshot, words: list[str], folder: Path, formats: list[str]) -> None:
    jobs()[run.path] = Job.start(words, folder, formats, session.root())


def _progress(run: Snapshot) -> None:
    job = jobs().get(run.path)
    if job is None:
        st.caption("An export holds weights for timm, ONNX and other formats, a card, a training recipe, figures of "
                   "parity between all forms, and checksums. Weights are random unless a file of trained ones is "
                   "given on the command line (--weights FILE): what is exported is an architecture and a recipe.")
        return
    st.fragment(_watch, run_every=REFRESH_S if job.running else None)(job)


def _watch(job: Job) -> None:
    if job.running:
        share = (1 + len(job.done)) / (2 + len(job.formats))
        st.progress(share, f"Exporting {parts.plain(job.folder.name)}: {job.seconds:.0f} s; "
                    f"{', '.join(job.done) or 'no format'} done of {', '.join(job.formats)}")
        parts.code("\n".join(list(job.lines)[-12:]) or "…")
        st.button("Stop", key="export_stop", on_click=job.stop)
        st.session_state["export_watched"] = True
        return
    if st.session_state.pop("export_watched", False):
        st.rerun()  # the whole page: the list below, and the button above
    if job.ok:
        st.success(parts.plain(f"{job.folder} was written in {job.seconds:.0f} s."))
        _weights(exporting.read(job.folder))
    else:
        st.error(parts.plain(f"{job.folder.name}: the export ended with exit code {job.process.returncode} after "
                             f"{job.seconds:.0f} s."))
    with st.expander("What it said", expanded=not job.ok):
        parts.code("\n".join(job.lines) or "nothing")


def _weights(written: Written) -> None:
    """What the weights are worth: random ones are easily taken for a trained network."""
    words = f"Weights of {written.folder.name}: {parts.plain(written.weights)}."
    if written.random:
        st.warning(words, icon=":material/casino:")
    else:
        st.caption(words)


def _earlier(run: Snapshot, to: Path) -> None:
    found = exporting.made(to)
    if not found:
        return
    st.markdown("##### Written so far")
    chosen = st.selectbox("Export", found, format_func=lambda path: path.name, key="export_shown")
    written = exporting.read(chosen)
    _weights(written)
    left, right = st.columns([4, 5], gap="large")
    with left:
        size = sum(size for _, size in written.files) / 1e6
        st.caption(parts.plain(f"{len(written.files)} files, {size:.1f} MB, in {written.folder}"))
        st.download_button("Download as ZIP", written.archive, f"{written.folder.name}.zip", "application/zip",
                           key="export_zip", icon=":material/download:", on_click="ignore")
        st.dataframe(pd.DataFrame([{"file": name, "kB": size / 1000} for name, size in written.files]),
                     hide_index=True, column_config={"kB": parts.NUMBER(format="%.1f")}, alt="Files of the export.")
    with right:
        for title, code in [*written.next_commands(_data(run)), *written.loading]:
            st.caption(parts.plain(title))
            parts.code(code)


def _data(run: Snapshot) -> str:
    """The folder of the run's images; DIR where the task is a built-in one, which nobody trains a network for."""
    task = str(run.meta.task)
    return task if Path(task).is_absolute() else "DIR"
