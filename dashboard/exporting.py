"""Exports below a run's folder: `search.py export` as a process of its own, watched while it works."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from dashboard.process import environment
from dashboard.state import inside
from fastvit.presets import PRESETS
from nas.export.variant import RANDOM_WEIGHTS

NAME = re.compile(r"[a-z][a-z0-9_]{2,40}")
_FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,60}")
SHEET = "fastvit.json"
LINES = 400


def target(run: Path, folder: str) -> Path:
    """The folder below `run` that exports go to.

    Raises:
        ValueError: the name is no plain name of a folder, or leads out of the run.
    """
    if not _FOLDER.fullmatch(folder) or ".." in folder:
        raise ValueError(f"{folder!r} is no plain folder name: letters, digits, dot, dash and underscore")
    if folder == "workers":
        raise ValueError("'workers' belongs to the search; choose another folder")
    return inside(run, folder)


def words(run: Path, trial: int | None, preset: str | None, name: str, to: Path, formats: list[str],
          resolution: int) -> list[str]:
    """What `search.py` is asked for.

    Raises:
        ValueError: the name, or what to export, is not valid.
    """
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r}: expected 3 to 41 small letters, digits or underscores, the first a letter")
    if preset is not None and preset not in PRESETS:
        raise ValueError(f"{preset!r} is no preset")
    source = [str(run), "--trial", str(trial)] if preset is None else [preset, "--resolution", str(resolution)]
    calibration = ["--calibration", "builtin"] if "onnx-int8" in formats else []
    return ["export", *source, "--name", name, "--to", str(to), "--formats", ",".join(formats), *calibration]


@dataclass
class Job:
    """One export at work. `lines` is what it said, the progress on stderr and the result on stdout."""

    words: list[str]
    folder: Path
    formats: list[str]
    process: subprocess.Popen
    begun: float = field(default_factory=time.monotonic)
    ended: float | None = None
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=LINES))

    @classmethod
    def start(cls, words: list[str], folder: Path, formats: list[str], root: Path) -> Job:
        # -P: no module is ever imported from the folder of the runs.
        process = subprocess.Popen([sys.executable, "-P", "-m", "search", *words], env=environment(root, ""),
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                   text=True, errors="replace", start_new_session=True)
        job = cls(words, folder, formats, process)
        threading.Thread(target=job._listen, daemon=True).start()
        return job

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.strip():
                self.lines.append(line.rstrip()[:500])
        self.process.wait()
        self.ended = time.monotonic()

    @property
    def running(self) -> bool:
        return self.ended is None

    @property
    def seconds(self) -> float:
        return (self.ended or time.monotonic()) - self.begun

    @property
    def done(self) -> list[str]:
        """The formats that have said that they ended, well or not."""
        said = [line.partition(":")[0] for line in self.lines]
        return [name for name in self.formats if name in said]

    @property
    def ok(self) -> bool:
        return not self.running and self.process.returncode == 0

    def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)


@dataclass(frozen=True)
class Written:
    """A finished export: its folder, what its weights are, the files with their bytes, and the lines of code that
    load it."""

    folder: Path
    weights: str
    files: list[tuple[str, int]]
    loading: list[tuple[str, str]]

    @property
    def random(self) -> bool:
        return self.weights == RANDOM_WEIGHTS

    def next_commands(self, data: str) -> list[tuple[str, str]]:
        """What to do with it in a terminal, each with a word on why; `data` is the folder of the run's images."""
        place = shlex.quote(str(self.folder))
        train = [("Train it on your images:", f"python search.py train {place} --data {shlex.quote(data)}")]
        check = [("Check its files and outputs, here or where you copied it:", f"python search.py verify {place}")]
        return (train if self.random else []) + check

    def archive(self) -> bytes:
        """Its files as a ZIP, below a folder of its name."""
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as file:  # weights hardly shrink
            for name, _ in self.files:
                file.write(self.folder / name, f"{self.folder.name}/{name}")
        return packed.getvalue()


def made(to: Path) -> list[Path]:
    """Finished exports in a folder, the newest first. Links are left out."""
    try:
        found = [path for path in to.iterdir() if (path / SHEET).is_file() and not path.is_symlink()
                 and not path.name.startswith(".")]
    except OSError:
        return []
    return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)


def read(folder: Path) -> Written:
    files = [(path.relative_to(folder).as_posix(), path.stat().st_size) for path in sorted(folder.rglob("*"))
             if path.is_file() and not path.is_symlink()]
    card, weights = "", "unknown"
    with contextlib.suppress(OSError):
        if not (folder / "README.md").is_symlink():
            card = (folder / "README.md").read_text(encoding="utf-8", errors="replace")
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        weights = str(json.loads((folder / SHEET).read_text(encoding="utf-8"))["weights"])
    return Written(folder, weights, files, loading(card, folder))


def loading(card: str, folder: Path) -> list[tuple[str, str]]:
    """The code blocks of a card's section on loading, each with the line before it; paths are whole, so that the code
    runs wherever it is pasted."""
    _, _, section = card.partition("## Loading")
    section = section.partition("\n## ")[0]
    blocks = re.findall(r"([^\n]*)\n\n?```python\n(.*?)```", section, re.S)

    def whole(found: re.Match[str]) -> str:
        inside = folder / found[1]
        return f'"{inside}"' if inside.exists() else found[0]

    return [(title.strip().rstrip(":"), re.sub(r'"([\w.-]+\.\w+)"', whole,
                                               code.strip().replace("PATH_OF_THIS_FOLDER", str(folder))))
            for title, code in blocks]
