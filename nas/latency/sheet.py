"""A latency sheet: what an application meets beside the median of a warm network.

Every figure comes from processes of its own that have the runtime and nothing else in them, so that loading and memory
are what a small application would see: python -m nas.latency.sheet reads a request on stdin and answers one JSON line.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from nas import quiet
from nas.errors import Failure, UsageError
from nas.files import cache_folder
from nas.latency.devices import runtime
from nas.latency.network import Network
from nas.latency.process import measuring_environment
from nas.latency.runtime import Calls, Setting
from nas.latency.warm import undisturbed

BATCHES = (1, 8, 32)
PARTS = ("stem", "stage 1", "stage 2", "stage 3", "stage 4", "head")
LOADS = 5  # processes, of which the least disturbed tells loading and memory
SINGLES_S, LEAST_SINGLES = 1.5, 30
LIMIT_S = 300.0


@dataclass(frozen=True)
class Sheet:
    """Of one network on one device. Milliseconds are wall time, as an application sees it; `stages_ms` is the
    processor time of each part inside the network (where the runtime runs a beginning as it runs the whole), and
    `parts_over_whole` their sum beside a whole network's. `memory_mb` is the peak beyond a runtime that runs an empty
    network."""

    median_ms: float
    p90_ms: float
    p99_ms: float
    load_ms: float
    first_ms: float
    memory_mb: float
    file_mb: dict[str, float]
    images_per_s: dict[int, float]
    stages_ms: dict[str, float]
    parts_over_whole: float | None
    sustained_ms: list[float]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def sheet(network: Network, device: str, setting: Setting, *, sustained_s: float = 0.0) -> Sheet:
    """Fill in a sheet; about half a minute for a small network.

    Raises:
        UsageError: the device's runtime loads no file.
        Failure: it cannot convert or run the network.
    """
    chosen: Any = runtime(device)
    if not hasattr(chosen, "convert"):
        raise UsageError(f"--sheet: {chosen.name} loads no file; onnxruntime and openvino do")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        files = {batch: place / f"{batch}.onnx" for batch in BATCHES}
        for batch, path in files.items():
            path.write_bytes(chosen.convert(network, _with(setting, batch)))
        # OpenVINO chooses other layouts for a beginning than for the whole: differences say nothing there.
        cut = chosen.name == "onnxruntime" and network.config is not None and setting.precision == "fp32"
        beginnings = _beginnings(files[1], place) if cut else []
        ask: dict[str, Any] = {"device": device, "setting": asdict(setting)}
        loads = [_child(ask | {"what": "load", "file": str(files[1])}, chosen.lock) for _ in range(LOADS)]
        singles = _child(ask | {"what": "singles", "file": str(files[1]), "seconds": SINGLES_S}, chosen.lock)["ms"]
        rates = {batch: 1e3 * batch / float(np.median(_child(ask | {
            "what": "singles", "file": str(path), "seconds": SINGLES_S / 3}, chosen.lock)["ms"]))
                 for batch, path in files.items()}
        whole, *ends = _child(ask | {"what": "beginnings", "files": [str(path) for path in (files[1], *beginnings)]},
                              chosen.lock)["ms"] if beginnings else [0.0]
        curve = _child(ask | {"what": "sustained", "file": str(files[1]), "seconds": sustained_s},
                       chosen.lock)["ms"] if sustained_s else []
        median, p90, p99 = (float(value) for value in np.quantile(singles, (0.5, 0.9, 0.99)))
        # Others can only slow a process down, and a peak only grows by what comes in between.
        load_ms, first_ms, memory_mb = (float(min(one[key] for one in loads))
                                        for key in ("load_ms", "first_ms", "memory_mb"))
        return Sheet(median, p90, p99, load_ms, first_ms, memory_mb, _file_mb(chosen, network, setting, files[1]),
                     rates, {part: max(0.0, end - begin) for part, begin, end in zip(PARTS, [0.0, *ends], ends,
                                                                                     strict=False)},
                     ends[-1] / whole if ends else None, curve)


def _with(setting: Setting, batch: int) -> Setting:
    return Setting(setting.resolution, batch, setting.threads, setting.precision)


def _file_mb(chosen: Any, network: Network, setting: Setting, path: Path) -> dict[str, float]:
    found = {setting.precision: path.stat().st_size / 1e6}
    for precision in chosen.precisions:
        if precision not in found and precision in ("fp32", "int8"):
            found[precision] = len(chosen.convert(network, Setting(setting.resolution, 1, 1, precision))) / 1e6
    return {f"onnx {precision}": mb for precision, mb in found.items()}


def _beginnings(whole: Path, folder: Path) -> list[Path]:
    """The network up to the end of its stem, of each stage, and of its head: a file each. Differences between them are
    what a part takes inside the network; a part by itself would convert the layout of its input and output."""
    import onnx
    from onnx.utils import Extractor

    from nas.latency.onnx_graph import INPUT, OUTPUT, STAGES

    model = onnx.load_model(whole)
    marks = next(prop.value for prop in model.metadata_props if prop.key == STAGES).split(",")
    extractor = Extractor(onnx.shape_inference.infer_shapes(model))
    found: list[Path] = []
    for number, end in enumerate([*marks, OUTPUT]):
        found.append(folder / f"beginning-{number}.onnx")
        onnx.save_model(extractor.extract_model([INPUT], [end]), found[-1])
    return found


def _child(request: dict[str, Any], lock: str) -> dict[str, Any]:
    try:
        found = subprocess.run([sys.executable, "-m", "nas.latency.sheet"], input=json.dumps(request | {"lock": lock}),
                               text=True, capture_output=True, timeout=LIMIT_S + request.get("seconds", 0.0),
                               env=measuring_environment(), cwd=Path(__file__).parents[2])
    except subprocess.TimeoutExpired:
        raise Failure(f"{request['device']} did not answer within {LIMIT_S:g} s ({request['what']})") from None
    if found.returncode:
        last = (found.stderr.strip().splitlines() or [f"exit code {found.returncode}"])[-1]
        raise Failure(f"{request['device']} cannot run it ({request['what']}): {last[:300]}")
    answer: dict[str, Any] = json.loads(found.stdout.strip().splitlines()[-1])
    return answer


def main() -> None:
    request = json.loads(sys.stdin.read())
    chosen: Any = runtime(request["device"])
    setting = Setting(**request["setting"])
    import_module(chosen.name)
    empty = chosen.load(_empty(), setting)
    empty.run()
    with FileLock(cache_folder() / f"{request['lock']}.lock"), contextlib.ExitStack() as held:
        if request["what"] != "sustained":  # for a minute nobody is asked to pause
            held.enter_context(quiet.window())
            held.enter_context(undisturbed())
        print(json.dumps(_ANSWERS[request["what"]](request, chosen, setting, empty)))


def _empty() -> bytes:
    """A network that does nothing, to an image of one pixel."""
    from onnx import TensorProto, helper

    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 1, 1]) for name in ("image", "logits")]
    graph = helper.make_graph([helper.make_node("Relu", ["image"], ["logits"])], "empty", value[:1], value[1:])
    made: bytes = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)],
                                    ir_version=8).SerializeToString()
    return made


def _load(request: dict[str, Any], chosen: Any, setting: Setting, empty: Calls) -> dict[str, float]:
    before_mb = _memory_mb("VmRSS")
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    begun = time.perf_counter()
    session = chosen.load(request["file"], setting)
    loaded = time.perf_counter()
    session.run()
    first = time.perf_counter()
    for _ in range(5):
        session.run()
    return {"load_ms": 1e3 * (loaded - begun), "first_ms": 1e3 * (first - loaded),
            "memory_mb": _memory_mb("VmHWM") - before_mb}


def _memory_mb(what: str) -> float:
    try:
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what))
        return int(line.split()[1]) / 1024
    except (OSError, StopIteration):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


def _singles(request: dict[str, Any], chosen: Any, setting: Setting, empty: Calls) -> dict[str, list[float]]:
    session = chosen.load(request["file"], setting)
    _again(session.run, 0.1, 3)
    return {"ms": _again(session.run, request["seconds"], LEAST_SINGLES if setting.batch == 1 else 5)}


def _again(run: Callable[[], Any], seconds: float, least: int) -> list[float]:
    times: list[float] = []
    begun = time.perf_counter()
    while len(times) < least or time.perf_counter() - begun < seconds:
        started = time.perf_counter()
        run()
        times.append(1e3 * (time.perf_counter() - started))
    return times


def _beginnings_ms(request: dict[str, Any], chosen: Any, setting: Setting, empty: Calls) -> dict[str, list[float]]:
    """Processor ms of each file, less what a call costs that does nothing; rounds of all of them, each warm."""
    sessions = [empty, *(chosen.load(path, setting) for path in request["files"])]
    rounds: list[list[float]] = []
    for _ in range(7):
        row = []
        for session in sessions:
            single = max(1e-6, session.block(2) / 2)
            repeats = max(2, round(0.02 / single))
            row.append(1e3 * session.block(repeats) / repeats)
        rounds.append(row)
    nothing, *found = np.quantile(rounds, 0.35, axis=0)
    return {"ms": [float(ms - nothing) for ms in found]}


def _sustained(request: dict[str, Any], chosen: Any, setting: Setting, empty: Calls) -> dict[str, list[float]]:
    session = chosen.load(request["file"], setting)
    end = time.perf_counter() + request["seconds"]
    curve = []
    while time.perf_counter() < end:
        curve.append(float(np.median(_again(session.run, 1.0, 1))))
    return {"ms": curve}


_ANSWERS: dict[str, Callable[[dict[str, Any], Any, Setting, Calls], dict[str, Any]]] = {
    "load": _load, "singles": _singles, "beginnings": _beginnings_ms, "sustained": _sustained}


def words(name: str, found: Sheet) -> list[str]:
    """The sheet as text."""
    whole = sum(found.stages_ms.values())
    lines = [f"{name}: single inferences {found.median_ms:.3f} ms, p90 {found.p90_ms:.3f}, p99 {found.p99_ms:.3f} "
             "(wall)",
             f"  load {found.load_ms:.0f} ms, first inference {found.first_ms:.1f} ms, peak memory "
             f"{found.memory_mb:.1f} MB beyond an empty runtime",
             "  file " + ", ".join(f"{kind} {mb:.2f} MB" for kind, mb in found.file_mb.items()),
             "  images/s " + ", ".join(f"{rate:.0f} at batch {batch}" for batch, rate in found.images_per_s.items())]
    if found.parts_over_whole is not None:
        lines.append("  share " + ", ".join(f"{part} {100 * ms / whole:.0f} %" for part, ms in found.stages_ms.items())
                     + f" (parts are {100 * found.parts_over_whole:.0f} % of the whole)")
    if found.sustained_ms:
        lines.append(f"  sustained {len(found.sustained_ms)} s: {found.sustained_ms[0]:.3f} ms in the first, "
                     f"{found.sustained_ms[-1]:.3f} in the last, {max(found.sustained_ms):.3f} at most")
    return lines


if __name__ == "__main__":
    main()
