"""Charts as pure functions: data in, plotly figure out, and its text alternative beside it."""
