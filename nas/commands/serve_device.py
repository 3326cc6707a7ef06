"""`search.py serve-device`: measure on this machine for workers elsewhere."""

from __future__ import annotations

import argparse
import sys


def register(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "serve-device", help="measure here for workers elsewhere", allow_abbrev=False,
        description="Answer measurement requests for one device of this machine: workers elsewhere name it as "
                    "--device http://HOST:PORT. Beyond this machine a token is required: set FASTVIT_EXPLORER_TOKEN "
                    "to the same secret here and there. The connection is not encrypted; use a tunnel or a proxy "
                    "with TLS where others listen.")
    parser.add_argument("--device", default="onnxruntime", help="what to measure on (`search.py devices`)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine alone)")
    parser.add_argument("--port", type=int, default=8765, help="port to listen on (default 8765; 0: any)")
    parser.set_defaults(handler="nas.commands.serve_device:serve")


def serve(args: argparse.Namespace) -> int:
    import os
    import socket
    from importlib.util import find_spec

    from nas.addresses import TOKEN, is_address
    from nas.errors import Failure, NotAvailable, UsageError
    from nas.latency import check_device

    if missing := [name for name in ("fastapi", "uvicorn", "httpx") if not find_spec(name)]:
        raise NotAvailable(f"serve-device needs {', '.join(missing)}: pip install 'fastvit-explorer[server]'")
    if not 0 <= args.port <= 65535:
        raise UsageError(f"--port {args.port}: expected 0 to 65535")
    if is_address(args.device):
        raise UsageError("--device: expected a device of this machine, not an address")
    check_device(args.device)
    from nas.latency.device_server import LOOPBACK, create_app
    from nas.latency.http_server import server

    token = os.environ.get(TOKEN) or None
    here = args.host in LOOPBACK
    if not here and (token is None or len(token) < 16):
        raise UsageError(f"--host {args.host}: beyond this machine set {TOKEN} to a secret of at least 16 characters, "
                         "here and where the workers run")
    app = create_app(args.device, token=token, hosts=LOOPBACK if here else ("*",))
    family = socket.AF_INET6 if ":" in args.host else socket.AF_INET
    try:
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((args.host, args.port))
    except OSError as error:
        raise Failure(f"cannot listen on {args.host}:{args.port}: {error.strerror}") from None
    shown = f"[{args.host}]" if ":" in args.host else args.host
    print(f"{args.device} at http://{shown}:{listening.getsockname()[1]}"
          + ("" if token else ", without a token") + "; Ctrl-C ends it", file=sys.stderr, flush=True)
    server(app, log_level="warning").run(sockets=[listening])
    return 0
