"""`search.py dashboard`: runs in the browser."""

from __future__ import annotations

import argparse
import signal
import subprocess
import tempfile
from pathlib import Path


def register(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("dashboard", help="look at runs in the browser", allow_abbrev=False,
                                 description="Open a dashboard for the runs below a folder, on this machine only.")
    parser.add_argument("run", nargs="?", metavar="RUN", help="the run to open first (default: the newest)")
    parser.add_argument("--root", metavar="DIR",
                        help="the folder that holds the runs (default: the folder of RUN, or else runs)")
    parser.add_argument("--demo", action="store_true", help="made-up runs in a folder that is removed at the end")
    parser.add_argument("--port", type=int, default=8501, help="port on this machine (default 8501)")
    parser.add_argument("--no-browser", action="store_true", help="only print the address")
    parser.set_defaults(handler="nas.commands.dashboard:dashboard")


def dashboard(args: argparse.Namespace) -> int:
    from nas.errors import UsageError
    from nas.runs.run import Run

    if not 1 <= args.port <= 65535:
        raise UsageError(f"--port {args.port}: expected a number from 1 to 65535")
    if not _free(args.port):
        raise UsageError(f"port {args.port} is taken; name another with --port")
    if args.demo:
        if args.run is not None or args.root is not None:
            raise UsageError("--demo makes runs of its own; leave RUN and --root out")
        with tempfile.TemporaryDirectory(prefix="fastvit-explorer-") as folder:
            from dashboard.demo import make

            make(Path(folder) / "another seed", 60, seed=2)
            make(Path(folder) / "demo", 150)
            return serve(args, Path(folder).resolve(), "demo")
    if args.run is not None:
        Run.open(args.run)
    name, root = locate(args.run, args.root)
    if not root.is_dir():
        raise UsageError(f"{root} is no folder; start a run with `search.py --budget-ms 2`, or name the folder of your "
                         "runs with --root")
    return serve(args, root, name)


def serve(args: argparse.Namespace, root: Path, name: str) -> int:
    """Run the server until it ends; the exit code."""
    from dashboard.process import ADDRESS, command, environment, home

    print(f"http://{ADDRESS}:{args.port}", flush=True)
    process = subprocess.Popen(command(args.port, browser=not args.no_browser), env=environment(root, name),
                               cwd=home())
    # Ctrl-C reaches both processes; a SIGTERM reaches this one alone and must not leave a server behind.
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    while True:
        try:
            return 130 if process.wait() in (-signal.SIGINT, 130) else 0
        except KeyboardInterrupt:
            continue


def locate(run: str | None, root: str | None) -> tuple[str, Path]:
    """The name of the run to open first ("" for the newest) and the folder of the runs.

    Raises:
        UsageError: the run is not directly below the root.
    """
    from nas.errors import UsageError

    if run is None:
        return "", Path(root or "runs").resolve()
    path = Path(run).resolve()
    if root is not None and path.parent != Path(root).resolve():
        raise UsageError(f"{run} is not directly below --root {root}; leave --root out to use the run's own folder")
    return path.name, path.parent


def _free(port: int) -> bool:
    import socket

    from dashboard.process import ADDRESS

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, port))
        except OSError:
            return False
    return True
