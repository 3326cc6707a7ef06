"""ONNX Runtime without its telemetry: `onnxruntime()` instead of importing it."""

from __future__ import annotations

import importlib
import os
import tempfile
from functools import cache
from typing import Any

_PLACES = ("XDG_CACHE_HOME", "TMPDIR")  # where it writes


@cache
def onnxruntime() -> Any:
    """The module, telling nobody what it is used for.

    Its import writes a device identity and a database of events below the user's cache, and has no switch against
    that; they go into a folder that ends with this process. Sending events is turned off.
    """
    aside = tempfile.TemporaryDirectory(prefix="fastvit-explorer-", ignore_cleanup_errors=True)
    before = {name: os.environ.get(name) for name in _PLACES}
    os.environ.update(dict.fromkeys(_PLACES, aside.name))
    try:
        found = importlib.import_module("onnxruntime")
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    found.disable_telemetry_events()
    vars(found)["_aside"] = aside  # kept as long as the module
    return found
