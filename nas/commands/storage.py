"""`search.py serve-storage`: Optuna's gRPC proxy in front of a database, for more workers than that takes itself."""

from __future__ import annotations

import argparse
import sys


def register(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "serve-storage", help="share a database among many workers", allow_abbrev=False,
        description="Serve a database to workers that name --storage grpc://HOST:PORT. It has no password of its own: "
                    "whoever reaches the port can change every run in the database.")
    parser.add_argument("--storage", metavar="URL", help="postgresql:// or mysql:// "
                                                         "(default: FASTVIT_EXPLORER_STORAGE)")
    parser.add_argument("--host", default="localhost", help="address to listen on (default: this machine alone)")
    parser.add_argument("--port", type=int, default=13000, help="port to listen on (default 13000)")
    parser.add_argument("--threads", type=int, default=10, metavar="N",
                        help="requests served at once, each with a connection of its own (default 10)")
    parser.set_defaults(handler="nas.commands.storage:serve")


def serve(args: argparse.Namespace) -> int:
    import os
    import warnings
    from concurrent.futures import ThreadPoolExecutor

    import optuna

    from nas.addresses import shown, storage_url
    from nas.errors import Failure, UsageError
    from nas.runs.storage import ENVIRONMENT, open_database

    url = args.storage or os.environ.get(ENVIRONMENT)
    if not url:
        raise UsageError(f"--storage is missing: name the database, or set {ENVIRONMENT}")
    for name, low, high in (("port", 1, 65535), ("threads", 1, 1000)):
        if not low <= getattr(args, name) <= high:
            raise UsageError(f"--{name} {getattr(args, name)}: expected {low} to {high}")
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    _check_free(args.host, args.port)
    storage = open_database(url, connections=args.threads)
    print(f"serving {shown(storage_url(url))} at grpc://{args.host}:{args.port}; Ctrl-C ends it", file=sys.stderr)
    if args.host not in ("localhost", "127.0.0.1", "::1"):
        print("whoever reaches this port can read and change every run in the database", file=sys.stderr)
    try:
        optuna.storages.run_grpc_proxy_server(storage, host=args.host, port=args.port,
                                              thread_pool=ThreadPoolExecutor(args.threads))
    except RuntimeError as error:
        raise Failure(f"cannot listen on {args.host}:{args.port}: {str(error).splitlines()[0][:200]}") from None
    return 0


def _check_free(host: str, port: int) -> None:
    """gRPC shares a port with whoever serves it already, and requests would go to either.

    Raises:
        Failure: somebody listens there.
    """
    import errno
    import socket

    from nas.errors import Failure

    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that just ended do not count
                probe.bind(address)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise Failure(f"cannot listen on {host}:{port}: {error.strerror}") from None
