"""Commands on weight files: `convert`, `download` and `doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..console import Console

__all__ = ["run_convert", "run_doctor", "run_download"]


def run_convert(args: Any, console: Console) -> int:
    """Turn pickled weights into safetensors.

    Raises:
        CheckpointError: If a file is damaged, unsafe, unknown, or in the way.
    """
    from ..checkpoints.convert import convert

    for path in convert(args.input, args.output, console):
        console.say(str(path))
    return 0


def run_download(args: Any, console: Console) -> int:
    """Show the licences, and fetch the published weights if they are accepted.

    Raises:
        AnimatorError: If they are not accepted, or a file cannot be had or trusted.
    """
    from ..checkpoints.download import DownloadRequest, download, licence_text
    from ..checkpoints.manifest import GROUPS

    request = DownloadRequest(
        destination=Path(args.output),
        groups=tuple(args.components or (group.name for group in GROUPS)),
        revision=args.revision,
        accept_licences=args.accept_licences,
        endpoint=args.endpoint,
    )
    if args.accept_licences:
        console.say(licence_text(request.groups))
    for path in download(request, console):
        console.say(str(path))
    return 0


def run_doctor(args: Any, console: Console) -> int:
    """Print what is installed and found, and what to do about each gap."""
    from ..doctor import format_report, report

    checks = report(args.models, stable_video_folder=args.stable_video)
    console.result(format_report(checks))
    return 0
