"""The dashboard's entry point: `python search.py dashboard` runs it under Streamlit.

Which page is shown stands in the query like everything else of the view. Streamlit's own pages have paths of
their own instead; their links drop the query, and on such a path its front end first asks for files that are not
there, which fills the console with errors.
"""

from __future__ import annotations

import streamlit as st

from dashboard import session
from dashboard.state import MAX_RUNS, find_runs
from dashboard.style import STYLE
from dashboard.views import compare, configuration, export, front, space, trials

# Drawn here, because Streamlit fetches its own icons for a tab from the network.
ICON = ('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">'
        '<rect width="32" height="32" rx="6" fill="#0072B2"/>'
        '<path d="M5 26h6v-7h7v-7h8" fill="none" stroke="#fff" stroke-width="3"/>'
        '<circle cx="26" cy="10" r="3.5" fill="#E69F00"/></svg>')

PAGES = {
    "front": (":material/show_chart: Front", front.show),
    "configuration": (":material/account_tree: Configuration", configuration.show),
    "compare": (":material/compare_arrows: Compare", compare.show),
    "space": (":material/scatter_plot: Space", space.show),
    "trials": (":material/table_rows: Trials", trials.show),
    "export": (":material/deployed_code: Export", export.show),
}


def header() -> None:
    names = list(find_runs(session.root()))
    left, right = st.columns([7, 5], vertical_alignment="bottom")
    with left:
        session.bound(st.segmented_control, "Page", "page", options=list(PAGES), required=True,
                      format_func=lambda page: PAGES[page][0], label_visibility="collapsed")
    with right:
        session.bound(st.multiselect, "Runs", "runs", options=names, to=tuple, value=list(session.view().runs),
                      placeholder=f"Choose one of {len(names)} runs, or several of one device and task",
                      max_selections=MAX_RUNS, also={"gone": ()}, label_visibility="collapsed", width=540,
                      help="The first run is in focus; further ones are overlaid where they may be compared.")


def main() -> None:
    st.set_page_config(page_title="FastViT configuration explorer", page_icon=ICON, layout="wide")
    st.html(STYLE)
    session.begin()
    header()
    PAGES[session.view().page][1]()
    session.write_url()


main()
