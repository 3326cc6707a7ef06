"""Compare: two to four configurations and presets, what differs first."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from dashboard import drawing, session
from dashboard.compare import Column, Row, choices, figures, verdict
from dashboard.figures.compare import compared_figure
from dashboard.figures.front import front_rows, refs
from dashboard.load import Snapshot
from dashboard.state import MAX_COMPARED, Ref
from dashboard.views import parts
from fastvit.presets import PRESETS


def show() -> None:
    runs = session.chosen()
    first = runs[0]
    _choose(runs, first)
    columns = []
    for ref in session.view().compare:
        if (found := session.resolve(ref, runs)) is None:
            st.info(f"{parts.plain(ref)} is not in the chosen runs, or it never got a configuration.")
        else:
            columns.append(Column(session.label(ref, runs), *found))
    if len(columns) < 2:
        st.info("Choose at least two. The Compare button beside a configuration adds it here.",
                icon=":material/compare_arrows:")
        return
    _verdicts(columns, session.budget(first), first.unit)
    resolution, classes = first.meta.resolution, first.meta.num_classes
    _table("Figures", figures(columns, resolution, classes, first.unit), columns)
    rows = choices(columns)
    differing = [row for row in rows if row.differs]
    _table(f"{len(differing)} choices differ" if differing else "No choice differs", differing, columns)
    same = [row for row in rows if not row.differs]
    with st.expander(f"{len(same)} choices are the same"):
        _table("", [Row(row.label, row.values[:1]) for row in same], [Column("in all", columns[0].config)])
    _architectures(columns, resolution)


def _architectures(columns: Sequence[Column], resolution: int) -> None:
    st.markdown("##### Architectures")
    base = columns[0]
    st.caption(f"What differs from {parts.plain(base.label)} is underlined, and a dashed frame stands around a stage "
               "that differs.")
    places = st.columns(2)
    for index, column in enumerate(columns):
        with places[index % 2]:
            st.markdown(f"**{parts.plain(column.label)}**")
            parts.picture(drawing.network(column.config, resolution, None if column is base else base.config),
                          f"Architecture of {column.label}")


def _choose(runs: list[Snapshot], first: Snapshot) -> None:
    view = session.view()
    rows = front_rows(first.shown, view.replace(x="latency_ms", y="score"), session.budget(first))
    front = [ref for text in refs(rows) if (ref := Ref.parse(text))]
    options = list(dict.fromkeys([*view.compare, *([view.pick] if view.pick else []), *front,
                                  *(Ref("", name) for name in PRESETS)]))
    left, middle, right = st.columns([6, 1.2, 1], vertical_alignment="bottom")
    with left:
        session.bound(st.multiselect, f"Compare two to {MAX_COMPARED}: the front, the presets, and any trial",
                      "compare", options=options, value=list(view.compare), to=tuple, max_selections=MAX_COMPARED,
                      format_func=lambda ref: session.label(ref, runs), placeholder="Choose configurations")
    highest = int(first.frame.trial.max()) if len(first.frame) else 0
    number = middle.number_input("Any trial by number", min_value=0, max_value=highest, step=1, key="compare_number")
    right.button("Add", key="compare_add", width="stretch", on_click=session.compare,
                 args=(Ref(first.name, str(int(number))),))


def _verdicts(columns: Sequence[Column], budget: float, unit: str) -> None:
    base, *others = columns
    words = [verdict(one, base) for one in others]
    left, right = st.columns([3, 2], vertical_alignment="center")
    with left:
        st.plotly_chart(compared_figure(columns, budget, unit), key="compared", alt=" ".join(words),
                        config={"displaylogo": False})
    right.markdown("\n".join(f"- {parts.plain(line)}" for line in words))
    right.caption("A difference within two standard deviations, or with overlapping intervals, may be chance.")


def _table(title: str, rows: Sequence[Row], columns: Sequence[Column]) -> None:
    if title:
        st.markdown(f"##### {title}")
    if not rows:
        return
    cells = {"": [row.label for row in rows]} | {
        column.label: [row.values[i] for row in rows] for i, column in enumerate(columns)}
    parts.table(pd.DataFrame(cells).rename(columns={"": "what"}), title or "What is the same", rows=True)
