"""The dashboard's entry point: `python search.py dashboard` runs it under Streamlit."""

from __future__ import annotations

import streamlit as st

from dashboard import session
from dashboard.state import find_runs
from dashboard.views import configuration, front

# Drawn here, because Streamlit fetches its own icons for a tab from the network.
ICON = ('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">'
        '<rect width="32" height="32" rx="6" fill="#0072B2"/>'
        '<path d="M5 26h6v-7h7v-7h8" fill="none" stroke="#fff" stroke-width="3"/>'
        '<circle cx="26" cy="10" r="3.5" fill="#E69F00"/></svg>')

# Streamlit leaves six lines free above every page; a chart needs them more.
STYLE = "<style>.stMainBlockContainer { padding-top: 3.6rem; padding-bottom: 3rem }</style>"

PAGES = {
    "front": st.Page(front.show, title="Front", url_path="front", icon=":material/show_chart:", default=True),
    "configuration": st.Page(configuration.show, title="Configuration", url_path="configuration",
                             icon=":material/account_tree:"),
}


def header() -> None:
    names = list(find_runs(session.root()))
    left, right = st.columns([3, 2], vertical_alignment="bottom")
    with left:
        session.bound(st.multiselect, "Runs", "runs", options=names, to=tuple, value=list(session.view().runs),
                      placeholder="Choose one run, or several of one device and task", max_selections=5,
                      help="The first run is in focus; further ones are overlaid where they may be compared.")
    with right:
        st.caption(f"{len(names)} run{'s' if len(names) != 1 else ''} in `{session.root()}`")


def main() -> None:
    st.set_page_config(page_title="FastViT configuration explorer", page_icon=ICON, layout="wide")
    st.html(STYLE)
    st.session_state["pages"] = PAGES
    session.begin()
    page = st.navigation(list(PAGES.values()), position="top")
    header()
    page.run()
    session.write_url()


main()
