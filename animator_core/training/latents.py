"""Drawn clips, encoded once by the frozen networks and kept on disk in shards.

Encoding takes longer than a small network's training step, and its results never change. Several
processes can encode at once, and a training can begin before all is encoded: which clips step n
may use follows from n alone, and where they are not there yet, it waits.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ..checkpoints.state_dict import read_metadata
from ..checkpoints.writing import write_safetensors
from ..errors import CheckpointError, ConfigError
from ..faces.crops import similarity_to_template, warp_faces
from ..frames import to_model_range
from ..models.face_recognition import IResNet
from ..models.image_encoder import clip_pixels
from ..pose.drawing import draw_poses
from ..pose.keypoints import FramePose
from ..pose.runtime import opencv
from ..pose.skeletons import NUM_FACE, NUM_HAND
from .animation_config import ClipCacheConfig
from .animation_networks import FrozenParts
from .drawn_clips import SPLIT_SEEDS, DrawnClip, Split, draw_clip, five_points, visible_pose
from .hidden_heads import HIDINGS, hide_head

__all__ = [
    "ClipEncoder",
    "Shard",
    "check_networks",
    "encode_clips",
    "fingerprint",
    "largest_face",
    "open_shard",
    "wait_for_shard",
]

logger = logging.getLogger(__name__)

_FORMAT = "4"
_POLL_S = 2.0
_PROBE = 0.02  # strength of the noise by which the encoder's answer is measured


def _shard_path(config: ClipCacheConfig, split: Split, index: int) -> Path:
    return Path(config.folder) / split / f"clips_{index * config.shard_clips:07d}.safetensors"


def _description(config: ClipCacheConfig) -> str:
    """What the content of a shard follows from, networks aside."""
    ignored = ("folder", "clips", "first_clips", "complete_from", "patience_s", "validation_clips")
    kept = {k: v for k, v in asdict(config).items() if k not in ignored}
    return json.dumps({"format": _FORMAT, **kept}, sort_keys=True)


def largest_face(boxes: NDArray[np.float64]) -> int | None:
    """Whose face is the largest, or None if no face is to be seen.

    Args:
        boxes: [n, 4] x0, y0, x1, y1; zeros where no face is.
    """
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return int(areas.argmax()) if len(areas) and areas.max() > 0 else None


@dataclass(frozen=True, kw_only=True)
class ClipEncoder:
    """Draws clips and encodes them.

    Attributes:
        config: What is encoded.
        frozen: VAE and image encoder.
        recogniser: The face recogniser.
        device: Where they run.
    """

    config: ClipCacheConfig
    frozen: FrozenParts
    recogniser: IResNet
    device: torch.device

    @torch.no_grad()
    def encode(self, seed: int, *, hide: bool) -> dict[str, Any]:
        """One clip; see `Shard` for what its arrays are.

        Args:
            seed: Of the clip.
            hide: Whether to encode the reference with its head hidden, too.
        """
        clip = draw_clip(seed, self.config.data)
        lot = np.random.default_rng([11, seed])
        faces = np.concatenate([clip.reference_face_boxes[None], clip.face_boxes])
        people = [largest_face(boxes) for boxes in faces]
        pictures = [clip.reference, *clip.frames]
        hides = hide and people[0] is not None
        if hides:
            hiding = HIDINGS[int(lot.integers(len(HIDINGS)))]
            pictures.append(hide_head(clip.reference, faces[0, people[0]], hiding, lot))
        pixels = to_model_range(np.stack(pictures)).to(self.device)
        latents = self.frozen.vae.encode_chunks(pixels).cpu().half()
        encoder: Any = self.frozen.image_encoder
        tokens = encoder(clip_pixels(pixels, encoder.config.image_size)).image_embeds.cpu()
        count = len(people)
        points = _face_points(clip, people)
        return {
            "latents": latents[:count],
            "image_tokens": tokens[:count],
            "face_embedding": self._embeddings(pixels, points, people),
            "has_face": torch.tensor([person is not None for person in people]),
            "face_person": torch.tensor([-1 if person is None else person for person in people]),
            "face_points": torch.from_numpy(points).float(),
            "face_masks": self._masks(faces, latents.shape[-2:]),
            "hidden_latents": latents[count:],
            "hidden_tokens": tokens[count:],
            "skeletons": [_png(picture) for picture in self._skeletons(clip, seed)],
        }

    @torch.no_grad()
    def noise_deviation(self) -> Tensor:
        """How far noise of unit strength on the pixels moves each latent channel, [channels].

        Reference pictures get a little noise before they are encoded. Noise on their latents does
        the same, without encoding every picture again each time.
        """
        lot = np.random.default_rng(13)
        data = replace(self.config.data, frames=1)
        clean = to_model_range(np.concatenate([draw_clip(seed, data).frames for seed in range(4)]))
        noise = torch.from_numpy(lot.standard_normal(clean.shape).astype(np.float32))
        pixels = torch.cat((clean, clean + _PROBE * noise)).to(self.device)
        before, after = self.frozen.vae.encode_chunks(pixels).cpu().chunk(2)
        return (after - before).std(dim=(0, 2, 3)) / _PROBE

    def _skeletons(self, clip: DrawnClip, seed: int) -> NDArray[np.uint8]:
        config = self.config
        lot = np.random.default_rng([14, seed])
        visible, hands, face = lot.random(3) >= (
            1 - config.visible_share,
            config.without_hands,
            config.without_face,
        )
        poses = [clip.reference_pose, *clip.poses]
        if visible:
            poses = [visible_pose(pose) for pose in poses]
        poses = [_without(pose, hands=not hands, face=not face) for pose in poses]
        return draw_poses(poses, config.data.width, config.data.height, config.draw_mode)

    def _embeddings(
        self, pixels: Tensor, points: NDArray[np.float64], people: list[int | None]
    ) -> Tensor:
        """Embedding of the largest face of every picture; zeros where there is none."""
        embeddings = torch.zeros(len(people), self.recogniser.num_features)
        for index, person in enumerate(people):
            if person is not None:
                matrix = similarity_to_template(points[index])
                face = warp_faces(pixels[index : index + 1], [matrix])
                embeddings[index] = self.recogniser(face)[0].cpu()
        return embeddings

    def _masks(self, faces: NDArray[np.float64], size: torch.Size) -> Tensor:
        """Face masks at the latents' size, as the loss uses them."""
        shape = (len(faces), self.config.data.height, self.config.data.width)
        masks = torch.zeros(shape)
        for mask, boxes in zip(masks, np.rint(faces).astype(int).tolist(), strict=True):
            for left, top, right, bottom in boxes:
                if right > left:
                    mask[top : bottom + 1, left : right + 1] = 1
        return F.interpolate(masks[:, None], size=tuple(size), mode="nearest")[:, 0].to(torch.uint8)


def _face_points(clip: DrawnClip, people: list[int | None]) -> NDArray[np.float64]:
    """Five points [5, 2] of the largest face of every picture [px]; zeros where there is none."""
    poses = [clip.reference_pose, *clip.poses]
    points = np.zeros((len(people), 5, 2))
    for index, person in enumerate(people):
        if person is not None:
            points[index] = five_points(poses[index].people[person])
    return points


def _without(pose: FramePose, *, hands: bool, face: bool) -> FramePose:
    """The pose without hands or face landmarks, if so asked."""
    lacking: dict[str, Any] = {}
    if hands:
        lacking["left_hand"] = lacking["right_hand"] = np.zeros((NUM_HAND, 3))
    if face:
        lacking["face"] = np.zeros((NUM_FACE, 3))
    return replace(pose, people=tuple(replace(p, **lacking) for p in pose.people))


def _png(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    # the channel order does not matter as long as reading swaps nothing either
    return opencv().imencode(".png", picture)[1].ravel()


def encode_clips(
    encoder: ClipEncoder,
    split: Split,
    *,
    part: tuple[int, int] = (0, 1),
    networks: str = "",
    report: Callable[[int, int], None] = lambda _done, _total: None,
) -> int:
    """Encode all clips of a split that are not encoded yet.

    Args:
        encoder: Draws and encodes.
        split: Training or validation clips.
        part: (i, n): only every n-th shard, from the i-th; for n processes at once.
        networks: Fingerprint of the networks, kept beside the clips.
        report: Told of the finished and of all shards of this part.

    Returns:
        Shards that were written.
    """
    config = encoder.config
    clips = config.clips if split == "train" else config.validation_clips
    indices = range(part[0], -(-clips // config.shard_clips), part[1])
    metadata = {"description": _description(config), "networks": networks}
    written, deviation = 0, encoder.noise_deviation()
    for done, index in enumerate(indices):
        path = _shard_path(config, split, index)
        if not path.exists():
            shard = _encoded_shard(encoder, split, index) | {"noise_deviation": deviation}
            write_safetensors(path, shard, metadata=metadata, overwrite=True)
            written += 1
        report(done + 1, len(indices))
    return written


def _encoded_shard(encoder: ClipEncoder, split: Split, index: int) -> dict[str, Tensor]:
    config = encoder.config
    first = SPLIT_SEEDS[split].start + config.first_seed + index * config.shard_clips
    seeds = range(first, first + config.shard_clips)
    share = config.hidden_share if split == "train" else 1.0
    clips = [
        encoder.encode(seed, hide=np.random.default_rng([12, seed]).random() < share)
        for seed in seeds
    ]
    pictures = [picture for clip in clips for picture in clip.pop("skeletons")]
    hidden = [len(clip["hidden_latents"]) for clip in clips]
    places = np.where(np.array(hidden) > 0, np.cumsum(hidden) - 1, -1)
    joined = ("hidden_latents", "hidden_tokens")
    shard = {key: torch.cat([clip.pop(key) for clip in clips]) for key in joined}
    shard |= {key: torch.stack([clip[key] for clip in clips]) for key in clips[0]}
    shard["hidden_place"] = torch.from_numpy(places)
    shard["skeletons"] = torch.from_numpy(np.concatenate(pictures))
    shard["skeleton_ends"] = torch.from_numpy(np.cumsum([len(picture) for picture in pictures]))
    return shard


@dataclass(frozen=True, kw_only=True)
class Shard:
    """N encoded clips of K pictures: the reference, then the frames. Any may serve as reference.

    Attributes:
        latents: [N, K, 4, h, w] float16, unscaled posterior means.
        image_tokens: [N, K, d].
        face_embedding: [N, K, features], raw; zeros where no face is to be seen.
        has_face: [N, K] bool.
        face_person: [N, K] whose face that is, or -1.
        face_points: [N, K, 5, 2] eyes, nose tip and mouth corners of that face [px], likewise.
        face_masks: [N, K, h, w] uint8, 0 or 1.
        hidden_latents: [M, 4, h, w] of the references whose heads are hidden.
        hidden_tokens: [M, d] of these.
        hidden_place: [N] index into these, or -1.
        noise_deviation: [channels] how far unit noise on the pixels moves the latents.
    """

    latents: Tensor
    image_tokens: Tensor
    face_embedding: Tensor
    has_face: Tensor
    face_person: Tensor
    face_points: Tensor
    face_masks: Tensor
    hidden_latents: Tensor
    hidden_tokens: Tensor
    hidden_place: Tensor
    noise_deviation: Tensor
    _skeletons: NDArray[np.uint8]
    _ends: NDArray[np.int64]

    def skeleton(self, clip: int, picture: int) -> NDArray[np.uint8]:
        """Skeleton picture [H, W, 3], RGB."""
        place = clip * self.latents.shape[1] + picture
        start = int(self._ends[place - 1]) if place else 0
        return opencv().imdecode(self._skeletons[start : int(self._ends[place])], 1)


@lru_cache(maxsize=1024)
def _open(path: Path, description: str) -> Shard:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        found = (file.metadata() or {}).get("description")
        if found != description:
            raise ConfigError(
                f"{path} was encoded with {found}, but this run asks for {description}. Remove "
                "the folder or choose another one."
            )
        tensors = {key: file.get_tensor(key) for key in file.keys()}
    skeletons, ends = (tensors.pop(key).numpy() for key in ("skeletons", "skeleton_ends"))
    return Shard(**tensors, _skeletons=skeletons, _ends=ends)


def open_shard(config: ClipCacheConfig, split: Split, index: int) -> Shard:
    """A shard that is there; kept in memory by the process that reads it.

    Raises:
        CheckpointError: If it is not there.
        ConfigError: If it was encoded with other settings.
    """
    path = _shard_path(config, split, index)
    if not path.exists():
        raise CheckpointError(
            f"{path} is missing; encode the clips first: python -m animator_core encode-clips "
            "CONFIG.toml"
        )
    return _open(path, _description(config))


def wait_for_shard(config: ClipCacheConfig, split: Split, index: int) -> Shard:
    """A shard, as soon as it is there.

    Raises:
        CheckpointError: If it does not come within the configured patience.
        ConfigError: If it was encoded with other settings.
    """
    path = _shard_path(config, split, index)
    deadline = time.monotonic() + config.patience_s
    warned = False
    while not path.exists() and time.monotonic() < deadline:
        if not warned:
            logger.warning("waiting for %s; is encode-clips running?", path)
            warned = True
        time.sleep(_POLL_S)
    return open_shard(config, split, index)


def fingerprint(frozen: FrozenParts, recogniser: nn.Module) -> str:
    """A short hash of all weights that encoded clips follow from; the VAE's decoder has no part."""
    digest = hashlib.sha256()
    networks = (frozen.vae.encoder, frozen.vae.quant_conv, frozen.image_encoder, recogniser)
    for network in networks:
        for name, value in sorted(network.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def check_networks(config: ClipCacheConfig, split: Split, expected: str) -> None:
    """Make sure that clips were encoded by the networks of this run.

    Raises:
        CheckpointError: If the first shard is not there.
        ConfigError: If they were encoded by others.
    """
    open_shard(config, split, 0)
    path = _shard_path(config, split, 0)
    found = read_metadata(path).get("networks")
    if found != expected:
        raise ConfigError(
            f"{path} was encoded by other networks ({found}) than this run's ({expected}). Remove "
            "the folder and encode the clips again, or give the networks that made it."
        )
