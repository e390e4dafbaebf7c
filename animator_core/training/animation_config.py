"""Settings of a training of the animation model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from ..errors import ConfigError
from ..pose.drawing import DRAW_MODE, DrawMode
from .drawn_clips import DrawnClipConfig
from .loop import LoopConfig
from .noise_levels import NoiseLevels

__all__ = [
    "AnimationTrainingConfig",
    "ClipCacheConfig",
    "ConditioningDropout",
    "FolderDataConfig",
    "FrozenNetworks",
    "SamplesConfig",
    "check_shares",
]

_FOLDER_SAMPLES = ("clips", "clip_frames")  # all other settings of samples are for drawn clips


def check_shares(source: object, **values: float) -> None:
    """Make sure that settings of a table are shares.

    Args:
        source: The table.
        **values: By name.

    Raises:
        ConfigError: If one is not in 0..1.
    """
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise ConfigError(f"{name} of {type(source).__name__} is {value} but is in 0..1.")


@dataclass(frozen=True, kw_only=True)
class FrozenNetworks:
    """Where the networks that are not trained lie.

    Attributes:
        models: Models folder with `SVD/vae`.
        image_encoder: Models folder with `SVD/image_encoder`; the same one if empty.
        recogniser: Weights of the face recogniser (`glintr100_torch.safetensors` or an ONNX
            file); needed to encode clips.
    """

    models: str
    image_encoder: str = ""
    recogniser: str = ""


@dataclass(frozen=True, kw_only=True)
class ConditioningDropout:
    """How often a video is trained without parts of its conditioning.

    Attributes:
        reference: The published scheme's p: the image token is dropped with probability 2p, the
            reference latents with 2p, both at once with p.
        identity: Of the identity tokens.
        pose: Of the pose.
        everything: Of all at once, which is what guidance compares with.
    """

    reference: float = 0.1
    identity: float = 0.0
    pose: float = 0.0
    everything: float = 0.0

    def __post_init__(self) -> None:
        check_shares(self, identity=self.identity, pose=self.pose, everything=self.everything)
        if not 0 <= self.reference <= 1 / 3:
            raise ConfigError(
                f"reference of ConditioningDropout is {self.reference} but is in 0..1/3."
            )


@dataclass(frozen=True, kw_only=True)
class ClipCacheConfig:
    """Drawn clips that are encoded once.

    Attributes:
        folder: Where they are kept.
        clips: How many the training uses.
        first_clips: How many it starts with: it can begin before the others are encoded.
        complete_from: Share of the training's steps from which all of them are used.
        patience_s: How long the training waits for clips that are not encoded yet [s].
        shard_clips: Clips of a file.
        first_seed: Seed of clip 0, within the split.
        validation_clips: Held-out clips.
        hidden_share: Share of clips whose reference is also encoded with its head hidden.
        visible_share: Share of clips whose skeletons lack the joints outside the picture.
        without_hands: Share of clips whose skeletons lack hands.
        without_face: Share of clips whose skeletons lack face landmarks.
        draw_mode: How skeletons are drawn; inference must draw them in the same way.
        data: What the clips look like. Single pictures profit from few frames far apart (`fps`).
    """

    folder: str
    clips: int = 8000
    first_clips: int = 1000
    complete_from: float = 0.6
    patience_s: float = 1800.0
    shard_clips: int = 50
    first_seed: int = 0
    validation_clips: int = 50
    hidden_share: float = 0.5
    visible_share: float = 0.7
    without_hands: float = 0.15
    without_face: float = 0.1
    draw_mode: DrawMode = DRAW_MODE
    data: DrawnClipConfig = field(default_factory=DrawnClipConfig)

    def __post_init__(self) -> None:
        check_shares(
            self,
            complete_from=self.complete_from,
            hidden_share=self.hidden_share,
            visible_share=self.visible_share,
            without_hands=self.without_hands,
            without_face=self.without_face,
        )
        if self.draw_mode not in get_args(DrawMode):
            raise ConfigError(
                f"draw_mode is {self.draw_mode!r}; use {', '.join(get_args(DrawMode))}."
            )
        if not 1 <= self.first_clips <= self.clips:
            raise ConfigError(
                f"The first {self.first_clips} of {self.clips} clips cannot be used; give at least "
                "one and at most all."
            )


@dataclass(frozen=True, kw_only=True)
class SamplesConfig:
    """What a micro-batch holds: single pictures, clips, or moments.

    Moments are a short video of the reference in its own pose and then the other pictures that are
    encoded for single ones. They lie far apart in time, so much moves, and the first frame tells
    the network the reference's pose, as the anchor of a window does.

    Attributes:
        pictures: Single pictures of a micro-batch.
        clips: Clips of a micro-batch.
        clip_frames: Their length.
        moments: Videos of moments of a micro-batch.
        clips_from: Share of the steps from which videos are shown and the temporal layers learn;
            before it, all micro-batches are of single pictures.
        moments_share: Share of these later micro-batches that hold moments.
        pictures_share: Share of them that hold single pictures; the others hold clips.
        hidden_heads: Share of samples whose reference's head is hidden. Without them the identity
            tokens are never needed and never learnt.
        reference_first: Share of single pictures that show the reference itself in its own pose.
        anchored: Share of clips that begin with the reference in its own pose, as windows that are
            anchored on it do.
        own_references: Share of clips whose reference is one of their own pictures, so that little
            moves, and which begin with it; the others' is a picture from another time.
    """

    pictures: int = 16
    clips: int = 3
    clip_frames: int = 8
    moments: int = 4
    clips_from: float = 0.67
    moments_share: float = 0.0
    pictures_share: float = 0.0
    hidden_heads: float = 0.4
    reference_first: float = 0.1
    anchored: float = 0.1
    own_references: float = 0.0

    def __post_init__(self) -> None:
        check_shares(
            self,
            clips_from=self.clips_from,
            hidden_heads=self.hidden_heads,
            reference_first=self.reference_first,
            anchored=self.anchored,
            own_references=self.own_references,
            moments_share=self.moments_share,
            pictures_share=self.pictures_share,
        )
        if self.moments_share + self.pictures_share > 1:
            raise ConfigError(
                f"moments_share {self.moments_share} and pictures_share {self.pictures_share} are "
                "shares of the same micro-batches; together they must be at most 1."
            )
        if min(self.pictures, self.clips, self.clip_frames, self.moments) < 1:
            raise ConfigError(
                "pictures, clips, clip_frames and moments of a batch must be at least 1."
            )


@dataclass(frozen=True, kw_only=True)
class FolderDataConfig:
    """Videos as folders of pictures, in the published layout.

    `root` holds `rec` and `vec`, each with folders `NNNNN/{images,poses,faces}/frame_i.png`;
    `video_rec_path.txt` and `video_vec_path.txt` in it may list the folders to use.

    Attributes:
        root: The folder.
        faces: Folder of insightface's antelopev2; only needed for clips without
            `face_embeddings.safetensors`, which `prepare-data` writes.
        stride: Distance between the frames of a clip.
        rec_size: Width and height that `rec` is trained at [px].
        vec_size: Likewise for `vec`.
        validation_clips: Folders, the last of each part, that are only validated on.
    """

    root: str
    faces: str = ""
    stride: int = 4
    rec_size: tuple[int, int] = (512, 512)
    vec_size: tuple[int, int] = (576, 1024)
    validation_clips: int = 1

    def __post_init__(self) -> None:
        if self.stride < 1 or self.validation_clips < 0:
            raise ConfigError(
                f"stride is {self.stride} and validation_clips {self.validation_clips}; they must "
                "be at least 1 and 0."
            )
        for name in ("rec_size", "vec_size"):
            size = getattr(self, name)
            if len(size) != 2 or min(size) < 1:
                raise ConfigError(f"{name} is {size}; give width and height.")


@dataclass(frozen=True, kw_only=True)
class AnimationTrainingConfig:
    """One training run of UNet, PoseNet and face encoder.

    Attributes:
        loop: What every training has in common.
        frozen: The other networks.
        start: `models` trains on from the models folder's weights, `fresh` from random ones of
            the demo's architecture.
        trained: `published` trains the UNet's attention and identity layers, `all` all of it;
            PoseNet and face encoder are trained in any case.
        widths: Channels of the UNet's levels, if other than the demo's.
        heads: Attention heads of the levels, likewise.
        gradient_checkpointing: Compute blocks again in the backward pass to save memory.
        face_weight: Added to the loss's weight 1 inside face masks.
        identity_weight: Of the loss on whose face is predicted (see `IdentityLoss`); 0, as
            published, for none. Drawn clips only, whose faces' points are known.
        identity_frames: Frames of a micro-batch that it looks at.
        noise_augmentation: Strength of the noise on the reference's pixels.
        folders: Videos in the published layout. Without it, drawn clips are used:
        pictures: Encoded drawn clips for the part with single pictures.
        clips: Encoded drawn clips for the part with clips, and for validation.
        samples: What a micro-batch holds.
        noise: Noise levels.
        dropout: Conditioning dropout.
        validation_steps: Denoising steps of validation clips.
        validation_videos: Clips that a validation samples.
    """

    loop: LoopConfig
    frozen: FrozenNetworks
    folders: FolderDataConfig | None = None
    pictures: ClipCacheConfig | None = None
    clips: ClipCacheConfig | None = None
    start: Literal["models", "fresh"] = "models"
    trained: Literal["published", "all"] = "published"
    widths: tuple[int, ...] = ()
    heads: tuple[int, ...] = ()
    gradient_checkpointing: bool = False
    face_weight: float = 1.0
    identity_weight: float = 0.0
    identity_frames: int = 4
    noise_augmentation: float = 0.02
    samples: SamplesConfig = field(default_factory=SamplesConfig)
    noise: NoiseLevels = field(default_factory=NoiseLevels)
    dropout: ConditioningDropout = field(default_factory=ConditioningDropout)
    validation_steps: int = 8
    validation_videos: int = 4

    def __post_init__(self) -> None:
        if self.start not in ("models", "fresh"):
            raise ConfigError(f"start is {self.start!r}; use models or fresh.")
        if self.trained not in ("published", "all"):
            raise ConfigError(f"trained is {self.trained!r}; use published or all.")
        if (self.folders is None) == (self.pictures is None or self.clips is None):
            raise ConfigError(
                "The data is missing or given twice: give either the table folders, or the tables "
                "pictures and clips."
            )
        if self.identity_weight < 0 or self.identity_frames < 1:
            raise ConfigError(
                f"identity_weight is {self.identity_weight} and identity_frames "
                f"{self.identity_frames}; they must be at least 0 and 1."
            )
        if self.folders is not None:
            self._refuse_settings_of_drawn_clips()
        if self.clips is not None and self.samples.clip_frames > self.clips.data.frames:
            raise ConfigError(
                f"Clips of {self.samples.clip_frames} frames are asked for, but the encoded ones "
                f"have {self.clips.data.frames}."
            )
        for name in ("pictures", "clips"):
            cache = getattr(self, name)
            if cache is not None and cache.hidden_share < self.samples.hidden_heads:
                raise ConfigError(
                    f"hidden_heads is {self.samples.hidden_heads}, but only {cache.hidden_share} "
                    f"of the encoded {name} have a hidden head; raise their hidden_share."
                )

    def _refuse_settings_of_drawn_clips(self) -> None:
        if self.identity_weight:
            raise ConfigError(
                "identity_weight is for drawn clips only: folders do not say where eyes, nose and "
                "mouth lie. Remove it."
            )
        default = SamplesConfig()
        given = [
            name
            for name in vars(default)
            if name not in _FOLDER_SAMPLES and getattr(self.samples, name) != getattr(default, name)
        ]
        if given:
            raise ConfigError(
                f"{', '.join(given)} of samples is for drawn clips only, but this run trains on "
                f"folders, which know {' and '.join(_FOLDER_SAMPLES)}; remove it."
            )

    def cache(self, name: Literal["pictures", "clips"]) -> ClipCacheConfig:
        """Encoded drawn clips.

        Raises:
            ConfigError: If this training has other data.
        """
        found: ClipCacheConfig | None = getattr(self, name)
        if found is None:
            raise ConfigError(f"This training has no encoded clips; the table {name} is missing.")
        return found
