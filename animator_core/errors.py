"""The errors that this package raises on purpose.

Every message says three things: what was expected, what was found, and what to do about it.
"""

from __future__ import annotations

__all__ = [
    "AnimatorError",
    "CancelledError",
    "CheckpointError",
    "ConfigError",
    "DependencyError",
    "MediaError",
    "NoFaceError",
    "NoPoseError",
    "ShapeError",
]


class AnimatorError(Exception):
    """Base of all errors that are meant for the user's eyes."""


class ConfigError(AnimatorError, ValueError):
    """A setting is out of range, or two settings contradict each other."""


class ShapeError(AnimatorError, ValueError):
    """A tensor or picture has another shape, range or type than was asked for."""


class CheckpointError(AnimatorError):
    """A weight file is missing, damaged, unsafe, or belongs to another network."""


class DependencyError(AnimatorError):
    """An optional package or execution provider is missing or does not work."""


class MediaError(AnimatorError):
    """A picture, video or keypoint file cannot be read or written."""


class NoPoseError(AnimatorError):
    """A pose was needed where there is none."""


class NoFaceError(AnimatorError):
    """A face was needed where there is none."""


class CancelledError(AnimatorError):
    """The user stopped the run."""
