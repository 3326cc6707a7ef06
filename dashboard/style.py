"""What the pages need beyond Streamlit's own theme: legible captions and buttons, and a layout for a phone."""

from __future__ import annotations

# Captions carry most of the meaning here; Streamlit's opacity of 0.6 leaves them a contrast of 3.9 to 1 on white.
_CONTRAST = """
[data-testid="stCaptionContainer"] { opacity: 0.88 }
.stApp { --on-primary: light-dark(#fff, #0e1117) }
button[kind="primary"]:not(:disabled), button[kind="primary"]:not(:disabled) p, [data-tag] * {
  color: var(--on-primary) }
"""

# Streamlit leaves six lines free above every page; a chart needs them more.
_SPACE = """
.stMainBlockContainer { padding-top: 1.2rem; padding-bottom: 3rem }
.stAppHeader { background: transparent }
.stAppHeader, .stAppHeader * { pointer-events: none }
.stAppHeader button, .stAppHeader button *, .stAppHeader a { pointer-events: auto }
"""

# On a phone the navigation wraps instead of scrolling below Streamlit's menu, and what comes first is smaller.
_PHONE = """
@media (max-width: 640px) {
  .stAppHeader { display: none }
  .stMainBlockContainer { padding-left: 0.8rem; padding-right: 0.8rem; padding-top: 0.6rem }
  .st-key-view_page, .st-key-view_page * { max-width: 100% }
  .st-key-view_page [role="radiogroup"] { flex-wrap: wrap; overflow: visible }
  .st-key-view_page [role="radiogroup"] button { flex: 1 0 30%; padding: 0.2rem 0.3rem; min-height: 2rem }
  .st-key-front_controls .stColumn { min-width: 0 !important; flex: 1 1 25% !important }
  .st-key-front_controls .stColumn:first-child { flex: 3 1 55% !important }
  .st-key-front_controls .stColumn:last-child { flex: 1 1 100% !important }
  h4 { font-size: 1.1rem !important; padding-top: 0 !important }
  .stMain .stVerticalBlock { gap: 0.6rem }
}
"""

_TABLES = """
.scrolls { overflow: auto; max-height: 28rem }
.plain-table { border-collapse: collapse; width: 100%; font-size: 0.875rem; font-variant-numeric: tabular-nums }
.plain-table :is(th, td) { text-align: left; padding: 0.25rem 0.6rem; border-bottom: 1px solid rgb(128 128 128 / 25%) }
.plain-table :is(th, td:not(:last-child)) { white-space: nowrap }
.plain-table td:last-child { min-width: 12rem }
"""

STYLE = f"<style>{_CONTRAST}{_SPACE}{_PHONE}{_TABLES}</style>"
