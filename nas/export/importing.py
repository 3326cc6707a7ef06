"""A variant's folder into a run: its configuration as an anchor in the queue, its weights for warm starts."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from fastvit.config import FastViTConfig
from nas.errors import UsageError
from nas.export.folder import check_sums, inside
from nas.export.variant import SHEET, check_name, read_sheet
from nas.files import umask
from nas.runs.folder import check_writable
from nas.runs.run import Run
from nas.search.confirmed import search_trials

FOLDER = "imported"


def import_variant(folder: Path, path: Path, name: str | None = None) -> Path:
    """Enqueue the variant in `folder` as the anchor `name` of the run at `path`; where its weights were copied to.

    Raises:
        UsageError: no variant, a damaged one, no run, or the run has an anchor of that name.
    """
    from space import SearchSpace

    sheet = read_sheet(folder)
    run = Run.open(path)
    name = name or sheet["name"]
    check_name(name)
    kept = path / FOLDER / name
    if kept.exists() or name in (record.preset or record.anchor for record in search_trials(run)):
        raise UsageError(f"--name {name}: the run {path} has an anchor of that name; give another with --name")
    check_writable(path)
    config = FastViTConfig.from_dict(sheet["config"])
    wrong = [line for line in check_sums(folder) if line.startswith((SHEET, "model.safetensors"))]
    if wrong or config.key() != sheet["config_key"]:
        raise UsageError(f"{folder} is damaged: {wrong[0] if wrong else 'its configuration does not fit its key'}; "
                         "export it again")
    kept.parent.mkdir(exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=kept.parent, prefix=f".{name}."))
    try:
        for file in (SHEET, "model.safetensors"):
            shutil.copyfile(inside(folder, file), aside / file)
        aside.chmod(0o777 & ~umask())
        os.rename(aside, kept)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    space = SearchSpace.from_toml(run.meta.space.toml)
    known = config in space
    run.study.enqueue_trial(space.encode(config) if known else {},
                            user_attrs={"anchor": name} | ({} if known else {"config": config.to_dict()}))
    return kept
