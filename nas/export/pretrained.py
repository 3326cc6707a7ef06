"""Parents for a run: trained weights whose slices its finalists start from, in the lean form that these have."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fastvit.config import FastViTConfig
from fastvit.presets import PRESETS, named_config
from nas.errors import Failure, UsageError
from nas.export.variant import read_sheet
from nas.export.weights import load_weights
from nas.proxy.pretrained import Pretrained

if TYPE_CHECKING:
    from fastvit.model import FastViT

TIMM = "timm:"


def read_pretrained(spec: str) -> Pretrained:
    """"timm:NAME" with its published weights, the folder of a variant, or a file with the weights of a preset.

    Raises:
        UsageError: no such network, no FastViT, or weights that are none.
        Failure: published weights cannot be fetched.
    """
    from fastvit.lean import to_lean

    if spec.startswith(TIMM):
        name, model = _of_timm(spec)
        return Pretrained(name, to_lean(model))
    path = Path(spec).expanduser()
    if path.is_dir():
        sheet = read_sheet(path)
        model, _ = load_weights(path / "model.safetensors", FastViTConfig.from_dict(sheet["config"]))
        return Pretrained(sheet["name"], to_lean(model.eval()))
    if not path.is_file():
        raise UsageError(f"--parent {spec}: no such file or folder; expected timm:NAME, a variant's folder, or a file "
                         "of weights")
    configs = [config] if (config := _config_inside(path)) is not None else list(PRESETS.values())
    for config in configs:
        try:
            model, _ = load_weights(path, config)
        except UsageError as error:
            said = str(error).replace("--weights", "--parent")
        else:
            return Pretrained(path.stem, to_lean(model.eval()))
    if len(configs) == 1 or "does not fit" not in said:
        raise UsageError(said)
    raise UsageError(f"--parent {spec}: its weights are those of no preset; export the network as a variant "
                     "(`search.py export CONFIG --weights FILE --name NAME`) and give its folder")


def _config_inside(path: Path) -> FastViTConfig | None:
    """The configuration that a run wrote into its file of weights."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get("config")
        return None if text is None else FastViTConfig.from_json(text)
    except (SafetensorError, ValueError, OSError):
        return None


def _of_timm(spec: str) -> tuple[str, FastViT]:
    import timm

    from fastvit.model import FastViT
    from fastvit.timm import from_timm

    name = spec.removeprefix(TIMM)
    try:
        _, config = named_config(name.partition(".")[0])
    except ValueError:
        raise UsageError(f"--parent {spec}: a parent is one of timm's FastViTs, such as "
                         "timm:fastvit_sa24.apple_in1k") from None
    if not timm.is_model(name.partition(".")[0]):
        raise UsageError(f"--parent {spec}: timm has no model of that name")
    try:
        theirs = timm.create_model(name, pretrained=True)
    except Exception as error:
        raise Failure(f"--parent {spec}: its weights cannot be loaded "
                      f"({(str(error) or type(error).__name__).splitlines()[0][:150]}); give a file of them") from None
    model = FastViT(config, int(theirs.num_classes))  # type: ignore[arg-type]
    model.load_state_dict(from_timm(theirs.state_dict(), config))
    return name, model.eval()
