"""What ComfyUI was started with."""

from __future__ import annotations

import enum
from types import SimpleNamespace


class LatentPreviewMethod(enum.Enum):
    NoPreviews = "none"
    Latent2RGB = "latent2rgb"


args = SimpleNamespace(preview_method=LatentPreviewMethod.NoPreviews)
