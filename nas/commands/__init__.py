"""The commands of search.py, one module a group; each has `register(subparsers)` and needs only argparse to import."""

GROUPS: tuple[str, ...] = ("run", "measure", "peers", "score", "devices", "calibrate", "serve_device", "space",
                           "export", "importing", "train", "evaluate", "dashboard", "storage", "export_run", "report",
                           "doctor")
