"""The public names."""

import diffusion.models
import diffusion.models.saved


def test_they_are_complete() -> None:
    assert diffusion.models.__all__ == ["EMA", "Classifier", "UNet"]
    assert diffusion.models.saved.__all__ == ["SavedModel", "content_digest", "load_model", "save_model"]
