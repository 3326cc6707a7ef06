"""README.md of a variant: what it is, what its numbers are worth, and how to load each file."""

from __future__ import annotations

from typing import Any

from fastvit.cost import cost
from fastvit.timm import expressible_in_timm
from nas.export.parity import INCOMPARABLE
from nas.export.variant import Variant
from nas.recipe import taught_words

_PROBES = {"random": "noise", "real": "photographs", "structured": "flat and edges",
           "calibration": "calibration images"}
_SCORES = {"confirmed": "further seeds than the search's, with their error",
           "posterior": "posterior of all trials of the run", "run": "one training, its sampling error"}


def card(variant: Variant, written: dict[str, Any], failed: dict[str, str], parity: dict[str, Any]) -> str:
    """The card in Markdown. `written`, `failed` and `parity` as the export recorded them."""
    sections = [_head(variant), _architecture(variant), _numbers(variant), _files(written, failed),
                _loading(variant, written), _training(variant), _parity(parity), _provenance(variant)]
    return "\n\n".join(section for section in sections if section) + "\n"


def _head(variant: Variant) -> str:
    return (f"---\nlibrary_name: timm\ntags: [image-classification, fastvit]\nlicense: other\n---\n\n"
            f"# {variant.name}\n\nA FastViT image classifier: {variant.config.describe()}.\n\n"
            f"**Weights:** {variant.weights}.")


def _architecture(variant: Variant) -> str:
    config = variant.config
    rows = ["| stage | blocks | width | token mixer | mixer kernel | FFN ratio | FFN kernel | patch kernel before it |",
            "|---|---|---|---|---|---|---|---|"]
    for s in range(config.stages):
        kernel = "-" if config.mixers[s] == "attention" else config.mixer_kernels[s]
        patch = config.patch_kernels[s - 1] if s else "stem"
        rows.append(f"| {s + 1} | {config.depths[s]} | {config.widths[s]} | {config.mixers[s]} | {kernel} "
                    f"| {config.mlp_ratios[s]:g} | {config.ffn_kernels[s]} | {patch} |")
    size = cost(config, variant.resolution, num_classes=variant.num_classes)
    train = cost(config, variant.resolution, num_classes=variant.num_classes, form="train")
    return ("## Architecture\n\n" + "\n".join(rows) + f"\n\nInput {variant.resolution} x {variant.resolution} RGB, "
            f"{variant.num_classes} classes, key `{config.key()}`. {size.params_m:.2f} M parameters and "
            f"{size.gmacs:.3f} GMACs fused ({train.params_m:.2f} M in the train form). "
            "`fastvit.json` holds the whole configuration.")


def _numbers(variant: Variant) -> str:
    lines = ["## Numbers"]
    if variant.latency is None:
        lines.append("Latency: not measured for this export (`search.py export --device D` does).")
    else:
        value = variant.latency
        lines.append(f"Latency: {value['latency_ms']:.3f} ms [{value['ci_low_ms']:.3f}, {value['ci_high_ms']:.3f}] "
                     f"({value['origin']}, 95 % interval) on {value['device']}, {value['resolution']} px, batch "
                     f"{value.get('batch', 1)}, {value.get('threads', 1)} thread, {value.get('precision', 'fp32')}, "
                     f"{value.get('runtime', '')}, protocol {value.get('protocol', '')}. Raw samples: latency.json."
                     if "ci_low_ms" in value else
                     f"Latency: {value['latency_ms']:.3f} ms, predicted by {value.get('by', 'a model')}; not measured.")
    proxy = "proxy_of" in variant.provenance
    if (score := variant.provenance.get("score_run" if proxy else "score")) is not None:
        spread = None if proxy else variant.provenance.get("score_sd")
        how = _SCORES.get(variant.provenance.get("score_from") or "run", "")
        lines.append(f"Proxy score: {score:.3f}" + (f" ± {spread:.3f} ({how})" if spread else "")
                     + f" on the task {variant.provenance.get('task')}, of a narrow version trained for "
                     f"{variant.provenance.get('proxy_steps') or 'a few'} steps. It orders configurations within one "
                     "search. " + ("It is what these weights scored."
                                   if proxy else "It is no accuracy of these weights."))
    for key, label in (("standing", "In its run"), ("beside", "Beside a preset of that run"), ("note", "Note")):
        if said := variant.provenance.get(key):
            lines.append(f"{label}: {said}.")
    if (found := variant.accuracy) is not None and "held_out" in found:
        low, high = found["interval"]
        lines.append(f"Accuracy of these weights: top-1 {found['top1']:.1f} % [{low:.1f}, {high:.1f}] on "
                     f"{found['held_out']} of {found['data']} (Wilson's 95 % interval: the images' chance alone).")
    elif found is not None:
        lines.append(f"Accuracy of these weights on the {found['images']:,} validation images of {found['data']}: "
                     f"top-1 {found['top1']:.2f} % (train form {found['top1_unfused']:.2f} %), top-5 "
                     f"{found['top5']:.2f} %, calibration error {found['ece']:.3f}. evaluation.json has every class.")
    return "\n\n".join(lines)


def _files(written: dict[str, Any], failed: dict[str, str]) -> str:
    rows = ["## Files", "", "| format | file | MB | |", "|---|---|---|---|"]
    for name, artefacts in written.items():
        rows += [f"| {name} | {a['file']} | {a['bytes'] / 1e6:.1f} | {a['note']} |" for a in artefacts]
    rows += [f"| {name} | **failed** | | {reason} |" for name, reason in failed.items()]
    rows += ["", "`recipe.yaml` trains it with timm's train script; `SHA256SUMS` is checked by `sha256sum -c "
             "SHA256SUMS` or, with the outputs compared as well, by `python search.py verify FOLDER`."]
    return "\n".join(rows)


def _loading(variant: Variant, written: dict[str, Any]) -> str:
    name = variant.name
    stock = expressible_in_timm(variant.config) is not None
    parts = ["## Loading", "", f"Input: RGB in [0, 1], then (x - mean) / std with mean {list(variant.mean)} and std "
             f"{list(variant.std)}; NCHW. Output: {variant.num_classes} logits.", "", "timm" + ("" if stock else
             " (stock timm cannot express this network, so the module beside this file registers it; it needs this "
             "project installed)") + ":", "", "```python", "import timm"]
    parts += [] if stock else [f"import {name}  # with this folder on sys.path"]
    parts += ['model = timm.create_model("local-dir:PATH_OF_THIS_FOLDER", pretrained=True)', "```", "",
              "Fused, with this project:", "", "```python", "from fastvit import reparameterize",
              "from nas.export import load", 'model = reparameterize(load("PATH_OF_THIS_FOLDER"))', "```"]
    if "onnx" in written:
        parts += ["", "ONNX Runtime:", "", "```python", "import onnxruntime",
                  f'session = onnxruntime.InferenceSession("{name}.onnx")',
                  'logits = session.run(None, {"image": images})[0]  # float32 (1, 3, '
                  f"{variant.resolution}, {variant.resolution})", "```"]
    if "coreml" in written:
        parts += ["", "Core ML (macOS, or add the package to an Xcode project):", "", "```python",
                  "import coremltools", f'model = coremltools.models.MLModel("{written["coreml"][0]["file"]}")', "```"]
    if "executorch" in written:
        parts += ["", "ExecuTorch:", "", "```python", "from executorch.runtime import Runtime",
                  f'program = Runtime.get().load_program("{written["executorch"][0]["file"]}")',
                  'logits = program.load_method("forward").execute([image])[0]', "```"]
    if "litert" in written:
        parts += ["", "LiteRT (Android; input channels last):", "", "```python",
                  "from ai_edge_litert.interpreter import Interpreter",
                  f'model = Interpreter("{written["litert"][0]["file"]}")', "```"]
    if "tensorrt" in written:
        parts += ["", "TensorRT (this GPU model and version only):", "", "```python", "import tensorrt",
                  "runtime = tensorrt.Runtime(tensorrt.Logger())",
                  f'engine = runtime.deserialize_cuda_engine(open("{written["tensorrt"][0]["file"]}", "rb").read())',
                  "```"]
    if "openvino" in written:
        parts += ["", "OpenVINO:", "", "```python", "import openvino",
                  f'compiled = openvino.Core().compile_model("{written["openvino"][0]["file"]}", "CPU")', "```"]
    return "\n".join(parts)


def _training(variant: Variant) -> str:
    if (own := variant.provenance.get("trained_in_search")) is not None and "training" not in variant.provenance:
        recipe = own["recipe"]
        return (f"## Training\n\nIn the search itself, in the lean form (plain convolutions, which fuse to the same "
                f"network): {own['trained_images']:,} images of {variant.provenance.get('task')} in steps of 64, the "
                f"same ones again among them, most at {own['pixels']} px, the last at {own['resolution']} px; AdamW, "
                f"peak learning rate {recipe['learning_rate']:g} with a cosine to zero, weight decay "
                f"{recipe['weight_decay']:g}, mirrored and shifted images, labels smoothed by {recipe['smoothing']:g}; "
                f"from {own['started_from']}, {own['cpu_s']:,.0f} CPU-seconds. It is short: `search.py train` goes on "
                "from these weights.")
    known = variant.provenance.get("training")
    if not known or variant.recipe is None:
        return ""
    recipe = variant.recipe
    taught = ("" if not known.get("teacher") else
              f", taught by {known['teacher']} (half of the loss: {taught_words(recipe.distill)})")
    return (f"## Training\n\n{recipe.epochs} epochs ({known['steps']:,} steps of {recipe.batch_size} images at "
            f"{recipe.resolution} px) on {known['data']}, {recipe.opt}, peak learning rate {recipe.lr:.3g}{taught}; "
            f"{known['seconds']:,.0f} s on {known['devices']}, {known['precision']}. It started from weights: "
            f"{known['started_from']}. recipe.yaml holds the recipe, training.csv the course.")


def _parity(parity: dict[str, Any]) -> str:
    kinds = list(parity["fused"])
    rows = ["## Parity", "", f"Largest differences of the logits to the {parity['reference']}, absolute (relative to "
            "the largest logit), measured when this folder was made:", "",
            f"| form | {' | '.join(_PROBES[kind] for kind in kinds)} |", "|---" * (1 + len(kinds)) + "|"]
    for form, found in parity.items():
        if form in ("reference", "resolution"):
            continue
        if "not_run" in found:
            rows.append(f"| {form} | not run here: {found['not_run']} " + "| " * len(kinds) + "|")
            continue
        cells = ["other shape or no number" if found[k]["relative"] == INCOMPARABLE else
                 f"{found[k]['absolute']:.1e} ({found[k]['relative']:.1e})" for k in kinds]
        rows.append(f"| {form} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _provenance(variant: Variant) -> str:
    elsewhere = ("run_versions", "training", "trained_in_search", "standing", "beside", "note")
    known = {k: v for k, v in variant.provenance.items() if k not in elsewhere and v is not None}
    lines = "\n".join(f"- {key.replace('_', ' ')}: {value}" for key, value in known.items())
    return ("## Provenance and licence\n\nMade by the FastViT configuration explorer from:\n\n" + lines + "\n\n"
        "Architecture: Vasu et al., FastViT, ICCV 2023 (arXiv:2303.14189). The network code is this project's own "
        "(Apache-2.0). The licence of the weights is that of whoever trained them and of their data; they are not "
        "Apple's release.")
