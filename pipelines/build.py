"""From parameters to the objects of the core: the schedule, the decoder and the network's architecture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipelines.errors import ParamsError
from pipelines.sections import ModelParams, ProcessParams

if TYPE_CHECKING:
    from diffusion.process import Decoder, NoiseSchedule
    from pipelines.data.manifest import Manifest


def build_schedule(process: ProcessParams) -> NoiseSchedule:
    """The forward process of `process`.

    Raises:
        ParamsError: its values make no schedule.
    """
    from diffusion.process import NoiseSchedule

    p = process
    try:
        match p.schedule:
            case "linear":
                s = NoiseSchedule.linear(p.T, p.beta_1, p.beta_T, rescale=p.rescale)
            case "cosine":
                s = NoiseSchedule.cosine(p.T)
            case "log_snr":
                s = NoiseSchedule.log_snr_linear(p.T, log_snr_max=p.log_snr_max, log_snr_min=p.log_snr_min)
        return s.rescaled_to_zero_snr() if p.zero_terminal_snr else s
    except ValueError as error:
        raise ParamsError(f"params.yaml: process: {error}") from None


def architecture(model: ModelParams, manifest: Manifest, *, null_label: bool = False) -> dict[str, Any]:
    """The keyword arguments of `UNet` for the prepared images, as JSON values.

    Args:
        null_label: whether the network also knows the label of an image whose class is not told.

    Raises:
        ParamsError: the network does not fit the images, or needs labels that they do not have.
    """
    from diffusion.models.architecture import Architecture

    channels, height, width = manifest.shape
    if height != width:
        raise ParamsError(f"the images are {height}x{width}, the network wants squares: set prepare.image_size")
    if model.class_conditional and not manifest.classes:
        raise ParamsError("model.class_conditional is true, but the images have no labels: sort them into sub-folders")
    values = model.model_dump(mode="json", exclude={"kind", "class_conditional", "predicts"})
    labels = {"classes": len(manifest.classes) if model.class_conditional else None, "null_label": null_label}
    try:
        return Architecture(**{**values, "image_size": height, "in_channels": channels, **labels}).to_json()
    except ValueError as error:
        raise ParamsError(f"params.yaml: model: {error} (the prepared images are {height}x{width})") from None


def build_decoder(name: str, levels: int) -> Decoder:
    """The decoder of that name, for data with this many grey levels."""
    from diffusion.process import DiscretizedGaussian, GaussianDensity, NormalizedLevels

    match name:
        case "discretized_gaussian":
            return DiscretizedGaussian(levels)
        case "normalized_levels":
            return NormalizedLevels(levels)
        case "gaussian":
            return GaussianDensity()
    raise ValueError(f"unknown decoder {name!r}")
