"""After training: the accuracy of what was trained, and the variant's folder with it in place of the old one."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from fastvit.config import FastViTConfig
from nas.data.pictures import Images, eval_loader, open_images
from nas.evaluate.metrics import confusion, most_confused, per_class, summary
from nas.evaluate.predict import predict
from nas.export.folder import Exported, update
from nas.export.formats import Runner
from nas.export.variant import Options, Variant, read_sheet
from nas.recipe import Recipe
from nas.train.log import CSV
from nas.train.loop import CHECKPOINT, JOB, WEIGHTS, Job

CALIBRATION = 128


def finish(folder: Path, job: Job, hardware: dict[str, Any], *, device: str = "cpu") -> tuple[Exported, dict[str, Any]]:
    """Evaluate the averaged weights of a finished training, fused and unfused, and update the folder atomically.

    Raises:
        Failure: the fused network differs from the train form; the folder is as it was.
    """
    import torch

    from nas.export.parity import module_runner
    from nas.export.weights import load_weights

    sheet, recipe = read_sheet(folder), Recipe.from_dict(job.recipe)
    config = FastViTConfig.from_dict(sheet["config"])
    work = Path(job.work)
    data = open_images(job.data, recipe.resolution, recipe.seed)
    model = load_weights(work / WEIGHTS, config)[0].eval()
    rows = list(csv.DictReader((work / CSV).read_text().splitlines()))
    variant = Variant(sheet["name"], config, model, recipe.resolution, data.class_names, mean=job.mean, std=job.std,
                      recipe=recipe)
    found: dict[str, Any] = {}
    for form, module in (("fused", variant.fused), ("unfused", model)):
        logits, labels, unread = predict(module_runner(module.to(torch.device(device))), eval_loader(
            data.val, recipe, job.mean, job.std, batch=64, workers=job.workers), f"{form} network")
        found[form] = summary(logits, labels) | ({"unreadable": unread} if unread else {})
        if form == "fused":
            counts = confusion(logits, labels)
            found |= {"per_class": dict(zip(data.class_names, per_class(counts), strict=True)),
                      "most_confused": most_confused(counts, data.class_names), "confusion": counts.tolist()}
        module.cpu()
    fused = found["fused"]
    variant.weights = (f"trained on {data.name} for {recipe.epochs} epochs at {recipe.resolution} px, averaged over "
                       f"steps: {fused['top1']:.2f} % top-1 on its {fused['images']} validation images, fused")
    variant.accuracy = {"data": data.name, "images": fused["images"], "top1": fused["top1"], "top5": fused["top5"],
                        "ece": fused["ece"], "top1_unfused": found["unfused"]["top1"]}
    variant.provenance = sheet.get("provenance", {}) | {"training": {
        "data": data.name, "fingerprint": data.fingerprint, "epochs": recipe.epochs, "steps": int(rows[-1]["step"]),
        "seconds": round(sum(float(row["seconds"]) for row in rows), 1), "teacher": job.teacher,
        "started_from": sheet["weights"], **hardware}}
    if sheet["resolution"] == recipe.resolution:
        variant.latency = sheet.get("latency")
    variant.options = Options(**sheet.get("options", {}), calibration=_calibration(sheet, data, variant))
    variant.extra = {"training.csv": (work / CSV).read_text(), "evaluation.json": json.dumps(found, indent=1) + "\n"}
    made = update(variant, folder, list(sheet["formats"]))
    for name in (CHECKPOINT, WEIGHTS, JOB):
        (work / name).unlink(missing_ok=True)
    return made, found


def _calibration(sheet: dict[str, Any], data: Images, variant: Variant) -> Any:
    """Training images for the int8 format, where the folder has it."""
    if "onnx-int8" not in sheet["formats"]:
        return None
    import numpy as np

    from nas.data.pictures import Pictures

    class Part(Pictures):
        def __len__(self) -> int:
            return min(CALIBRATION, len(data.train))

        def get(self, index: int) -> Any:
            return data.train.get(index)  # the first ones hold the classes in proportion

    assert variant.recipe is not None
    seen: list[np.ndarray] = []

    def keep(images: np.ndarray) -> np.ndarray:
        seen.append(images)
        return np.zeros((len(images), 1), np.float32)

    run: Runner = keep
    predict(run, eval_loader(Part(), variant.recipe, variant.mean, variant.std, batch=32))
    return np.concatenate(seen)
