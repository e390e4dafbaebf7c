"""Runs an animation training, and the encoding that comes before it, from settings."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Literal

import torch

from ..errors import ConfigError
from ..interfaces import Monitor, Progress, SilentMonitor
from ..models.bundle import AnimatorModels
from .animation import AnimationObjective
from .animation_batches import EncodedClipSource
from .animation_config import AnimationTrainingConfig, FolderDataConfig
from .animation_networks import FrozenParts, load_frozen, load_recogniser, load_training_models
from .animation_validation import HeldOut
from .dataset import ClipFolder, FolderClipSource, find_clips, note_skipped, skipped_clips
from .drawn_clips import Split
from .held_out import HeldOutDrawings, HeldOutFolders
from .latents import ClipEncoder, check_networks, encode_clips, fingerprint
from .loop import BatchSource, train
from .settings import read_settings

__all__ = ["encode_training_clips", "train_animation"]

logger = logging.getLogger(__name__)

_SKIPPED_FILE = "skipped.jsonl"


def train_animation(
    content: dict[str, Any], source: object, monitor: Monitor | None = None
) -> Path:
    """Train as a settings file says; goes on where it stopped.

    Args:
        content: The file's tables, without `task`.
        source: For messages.
        monitor: Sees the steps.

    Returns:
        The output folder, a models folder; `skipped.jsonl` in it names videos with faults.

    Raises:
        ConfigError: If a setting is unknown or not valid, or clips were encoded differently.
        CheckpointError: If weights or the first encoded clips are missing.
        MediaError: If hardly any video can be read.
    """
    config = read_settings(AnimationTrainingConfig, content, source=source)
    models = load_training_models(config)
    folder = Path(config.loop.output)
    batches, held_out = _data(config, models, folder / _SKIPPED_FILE)
    objective = AnimationObjective(config, models, held_out)
    try:
        return train(objective, batches, config.loop, monitor=monitor)
    finally:
        skipped = skipped_clips(folder / _SKIPPED_FILE)
        if skipped:
            logger.warning(
                "%d videos were skipped; %s names them and their faults.",
                len(skipped),
                folder / _SKIPPED_FILE,
            )


def _data(
    config: AnimationTrainingConfig, models: AnimatorModels, skipped: Path
) -> tuple[BatchSource, HeldOut]:
    if config.folders is None:
        frozen = FrozenParts(vae=models.vae, image_encoder=models.image_encoder)
        networks = fingerprint(frozen, load_recogniser(config.frozen.recogniser))
        check_networks(config.cache("pictures"), "train", networks)
        check_networks(config.cache("clips"), "validation", networks)
        return EncodedClipSource(config), HeldOutDrawings(config)
    clips, faults = find_clips(config.folders, config.samples.clip_frames)
    known = skipped_clips(skipped)
    note_skipped(skipped, [(clip, reason) for clip, reason in faults if clip not in known])
    trained, held_out = _split(clips, config.folders)
    return (
        FolderClipSource(config.folders, config.samples, tuple(trained), str(skipped)),
        HeldOutFolders(config, tuple(held_out)),
    )


def _split(
    clips: list[ClipFolder], config: FolderDataConfig
) -> tuple[list[ClipFolder], list[ClipFolder]]:
    """The videos to train on, and the last ones of each part."""
    trained: list[ClipFolder] = []
    held_out: list[ClipFolder] = []
    for part in ("rec", "vec"):
        own = [clip for clip in clips if clip.part == part]
        kept = min(config.validation_clips, max(len(own) - 1, 0))
        trained += own[: len(own) - kept]
        held_out += own[len(own) - kept :]
    return trained, held_out


def encode_training_clips(
    content: dict[str, Any],
    source: object,
    *,
    part: tuple[int, int] = (0, 1),
    monitor: Monitor | None = None,
) -> str:
    """Encode validation clips, pictures and clips that are not encoded yet, in this order.

    Args:
        content: The tables of the training's settings file, without `task`.
        source: For messages.
        part: (i, n): do the i-th of n equal parts; for n processes at once.
        monitor: Sees the shards.

    Returns:
        The folder of the clips.

    Raises:
        ConfigError: If a setting is unknown or not valid.
        CheckpointError: If weights are missing.
    """
    config = read_settings(AnimationTrainingConfig, content, source=source)
    if config.folders is not None:
        raise ConfigError(f"{source} trains on folders of pictures; there is nothing to encode.")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    frozen = load_frozen(config.frozen)
    recogniser = load_recogniser(config.frozen.recogniser)
    networks = fingerprint(frozen, recogniser)
    for network in (frozen.vae, frozen.image_encoder, recogniser):
        network.to(device)
    frozen.vae.encoder.to(memory_format=torch.channels_last)  # a quarter faster on the CPU
    watcher = monitor or SilentMonitor()
    stages: tuple[tuple[Literal["pictures", "clips"], Split], ...] = (
        ("clips", "validation"),
        ("pictures", "train"),
        ("clips", "train"),
    )
    for name, split in stages:
        encoder = ClipEncoder(
            config=config.cache(name), frozen=frozen, recogniser=recogniser, device=device
        )

        def report(done: int, total: int, stage: str = f"encoding {name}, {split}") -> None:
            watcher.update(Progress(stage=stage, done=done, total=total))
            watcher.raise_if_cancelled()

        encode_clips(encoder, split, part=part, networks=networks, report=report)
    return config.cache("clips").folder
