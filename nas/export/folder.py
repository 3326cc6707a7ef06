"""The folder of a variant: made aside, checked against itself, moved into place; and verified later."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastvit.config import FastViTConfig
from nas.clock import now
from nas.errors import Failure, NotAvailable, UsageError, first_line
from nas.export.formats import MOST_TOLERANCE, Artefact, format_named, require
from nas.export.images import probe_images
from nas.export.parity import compare, module_runner, stressed, worst
from nas.export.variant import SHEET, Variant, check_name, read_sheet
from nas.files import swap_folders, umask, write_atomic, write_json
from nas.versions import versions

SUMS = "SHA256SUMS"
FUSED_TOLERANCE = 1e-4  # relative, float32; right fusions are a hundred times closer


@dataclass
class Exported:
    """What an export made: the folder, and the formats that failed with the reason."""

    folder: Path
    failed: dict[str, str] = field(default_factory=dict)


# What a folder's content depends on.
PACKAGES = ("fastvit-explorer", "torch", "timm", "onnx", "onnxruntime", "coremltools", "openvino", "numpy")


def destination(name: str, to: str | Path) -> Path:
    """DIR / NAME, checked before anything is built.

    Raises:
        UsageError: the name cannot be used, the folder exists or DIR cannot be written.
    """
    check_name(name)
    target = Path(to) / name
    if target.exists() or target.is_symlink():
        raise UsageError(f"{target} exists already and is never overwritten; choose another --name or --to")
    try:
        Path(to).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--to {to}: the folder cannot be made ({error.strerror}); name another") from None
    if not os.access(to, os.W_OK):
        raise UsageError(f"--to {to}: the folder cannot be written; name another")
    return target


def export(variant: Variant, to: str | Path, formats: Sequence[str] = ("timm", "onnx")) -> Exported:
    """Write the variant's folder `to`/NAME. A format that fails is recorded there and in the result.

    timm's is always among them: it holds the weights that the others are compared with.

    Raises:
        UsageError: name, destination or a format's name cannot be used; nothing was written.
        Failure: the fused network differs from the train form; nothing was written.
    """
    target = destination(variant.name, to)
    for name in formats:
        format_named(name)
    with _aside(variant, Path(to), formats) as (aside, failed):
        if target.exists():
            raise UsageError(f"{target} was made by somebody else meanwhile; choose another --name")
        os.rename(aside, target)
    return Exported(target, failed)


def update(variant: Variant, target: Path, formats: Sequence[str]) -> Exported:
    """Replace the variant's folder `target` by one with what `variant` holds now, whole or not at all.

    Raises as `export`; the folder is then as it was.
    """
    with _aside(variant, target.parent, formats) as (aside, failed):
        swap_folders(aside, target)
    return Exported(target, failed)


@contextlib.contextmanager
def _aside(variant: Variant, to: Path, formats: Sequence[str]) -> Iterator[tuple[Path, dict[str, str]]]:
    """The whole folder under another name, and its failed formats; what is left of it afterwards is removed."""
    aside = Path(tempfile.mkdtemp(dir=to, prefix=f".{variant.name}."))
    try:
        failed = fill(variant, aside, tuple(dict.fromkeys(("timm", *formats))))
        mask = umask()
        for path in (aside, *aside.rglob("*")):  # some writers leave files that only their owner reads
            path.chmod((0o777 if path.is_dir() else 0o666) & ~mask)
        yield aside, failed
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def fill(variant: Variant, folder: Path, formats: Sequence[str]) -> dict[str, str]:
    """Write everything into an empty folder; the formats that failed, with the reason."""
    from fastvit.fuse import reparameterize
    from nas.export.card import card
    from nas.export.recipe import recipe_yaml
    from nas.recipe import Recipe

    probes = probe_images(variant.resolution)
    if variant.options.calibration is not None:
        probes["calibration"] = variant.options.calibration[:2]
    reference = module_runner(variant.model.eval())
    parity: dict[str, Any] = {"reference": "train form, float32, eval mode", "resolution": variant.resolution,
                              "fused": compare(reference, module_runner(variant.fused), probes)}
    hard = stressed(variant.model)
    parity["fused, weights of order 1"] = compare(module_runner(hard), module_runner(reparameterize(hard)), probes)
    if not worst(parity["fused"]) <= FUSED_TOLERANCE:
        raise Failure(f"the fused network differs from the train form by {worst(parity['fused']):.2g} relative, more "
                      f"than {FUSED_TOLERANCE:g}; the weights hold values that float32 cannot carry, or not numbers")
    written: dict[str, Any] = {}
    failed: dict[str, str] = {}
    for name in formats:
        begun = time.perf_counter()
        before = set(folder.iterdir())
        try:
            artefacts = require(name).write(variant, folder)
        except Exception as error:
            for path in set(folder.iterdir()) - before:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            failed[name] = first_line(error)
            print(f"{name}: failed: {failed[name]}", file=sys.stderr)
            continue
        seconds = time.perf_counter() - begun
        written[name] = [dataclasses.asdict(a) | {"bytes": size_of(folder / a.file)} for a in artefacts]
        print(f"{name}: {', '.join(a.file for a in artefacts)} in {seconds:.1f} s", file=sys.stderr)
        write_json(folder / SHEET, _sheet(variant, written, failed))  # some formats read it to load what they wrote
        for artefact in artefacts:
            try:
                found = compare(reference, format_named(name).load(folder, artefact), probes)
            except NotAvailable as error:
                parity[artefact.file] = {"not_run": str(error)}
                continue
            except Exception as error:
                failed[name] = f"{artefact.file} was written and cannot be loaded: {first_line(error)}"
            else:
                parity[artefact.file] = found
                if not worst(found) <= artefact.tolerance:
                    failed[name] = (f"{artefact.file} differs from the train form by {worst(found):.2g} relative, more "
                                    f"than {artefact.tolerance:g}")
        if name in failed:
            print(f"{name}: failed: {failed[name]}", file=sys.stderr)
    if variant.latency is not None:
        write_json(folder / "latency.json", variant.latency)
    write_json(folder / SHEET, _sheet(variant, written, failed))
    write_json(folder / "parity.json", parity)
    recipe = variant.recipe or Recipe(resolution=variant.resolution)
    teacher = variant.provenance.get("training", {}).get("teacher")
    (folder / "recipe.yaml").write_text(recipe_yaml(
        variant.name, variant.config, recipe, variant.num_classes, variant.mean, variant.std, teacher))
    for name, text in variant.extra.items():
        write_atomic(folder / name, text)
    (folder / "README.md").write_text(card(variant, written, failed, parity), encoding="utf-8")
    write_sums(folder)
    return failed


def _sheet(variant: Variant, written: dict[str, Any], failed: dict[str, str]) -> dict[str, Any]:
    return {"schema": 1, "name": variant.name, "config": variant.config.to_dict(), "config_key": variant.config.key(),
            "resolution": variant.resolution, "num_classes": variant.num_classes,
            "class_names": list(variant.class_names), "weights": variant.weights, "made": now(),
            "mean": list(variant.mean), "std": list(variant.std),
            "provenance": variant.provenance, "accuracy": variant.accuracy, "latency": variant.latency,
            "options": variant.options.to_dict(), "versions": versions(*PACKAGES), "formats": written,
            "failed_formats": failed}


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a package."""
    return path.stat().st_size if path.is_file() else sum(p.stat().st_size for p in path.rglob("*") if p.is_file())


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*")
                  if p.is_file() and not p.is_symlink() and p.name != SUMS and "__pycache__" not in p.parts)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def inside(folder: Path, name: str) -> Path:
    """The file or package of that name in an export.

    Raises:
        UsageError: it is none, is a link, or lies elsewhere.
    """
    path = folder / name
    if not path.exists() or path.resolve() != folder.resolve() / os.path.normpath(name):
        raise UsageError(f"{name!r} is no file of {folder} itself; an export is checked only where all of it is inside")
    return path


def write_sums(folder: Path) -> None:
    """SHA256SUMS over every file, in the format of `sha256sum -c`."""
    lines = [f"{_sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in _files(folder)]
    (folder / SUMS).write_text("".join(lines))


def check_sums(folder: Path) -> list[str]:
    """What SHA256SUMS disagrees with: changed, missing and additional files.

    Raises:
        UsageError: there is no SHA256SUMS.
    """
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise UsageError(f"{folder} has no {SUMS}; it is no complete export") from None
    listed = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    there = {path.relative_to(folder).as_posix(): path for path in _files(folder)}
    leads = [f"{path.relative_to(folder).as_posix()}: a link; an export holds its files themselves"
             for path in folder.rglob("*") if path.is_symlink()]
    wrong = leads + [f"{name}: missing" for name in listed if name not in there]
    wrong += [f"{name}: not in {SUMS}" for name in there if name not in listed]
    return wrong + [f"{name}: changed since the export" for name, digest in listed.items()
                    if name in there and _sha256(there[name]) != digest]


@dataclass
class Checked:
    """One line of a verification: a file, whether it is as it should be, and the words for it."""

    file: str
    ok: bool
    text: str


def verify(folder: Path) -> list[Checked]:
    """Check the sums, load every format that can be loaded here, and compare outputs with the train form.

    Raises:
        UsageError: the folder is no exported variant.
    """
    from nas.export.weights import load_weights

    sheet = read_sheet(folder)
    wrong = check_sums(folder)
    found = [Checked(SUMS, not wrong, "; ".join(wrong) or "every file as exported")]
    config = FastViTConfig.from_dict(sheet["config"])
    if config.key() != sheet["config_key"]:
        found.append(Checked(SHEET, False, f"the configuration's key is {config.key()}, not {sheet['config_key']}"))
    probes = probe_images(sheet["resolution"])
    try:
        model = load_weights(inside(folder, "model.safetensors"), config)[0].eval()
    except (Failure, ValueError) as error:
        return [*found, Checked("model.safetensors", False, f"{error}; no format can be compared without it")]
    from fastvit.fuse import reparameterize

    reference = module_runner(model)
    fused = worst(compare(reference, module_runner(reparameterize(model)), probes))
    found.append(Checked("fused form", fused <= FUSED_TOLERANCE, f"differs by {fused:.2g} relative"))
    for name, artefacts in sheet["formats"].items():
        for artefact in (Artefact.from_dict(values) for values in artefacts):
            try:
                inside(folder, artefact.file)
                other = format_named(name).load(folder, artefact)
                difference = worst(compare(reference, other, probes))
            except NotAvailable as error:
                found.append(Checked(artefact.file, True, f"not run: {error}"))
            except Exception as error:
                found.append(Checked(artefact.file, False, f"cannot be loaded: {first_line(error)}"))
            else:
                allowed = min(artefact.tolerance, MOST_TOLERANCE[name])
                found.append(Checked(artefact.file, difference <= allowed,
                                     f"differs by {difference:.2g} relative, {allowed:g} allowed"))
    for name, reason in sheet.get("failed_formats", {}).items():
        found.append(Checked(name, True, f"was not exported: {reason}"))
    return found


