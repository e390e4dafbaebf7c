"""The command line: `python -m animator_core COMMAND`.

Only options are defined here; what a command does is in `commands`, imported when it is run, so
that `--help` is instant.
"""

from __future__ import annotations

import argparse
import importlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from .config import (
    DecodeConfig,
    GuidanceConfig,
    SamplingConfig,
    WindowConfig,
)
from .console import Console
from .errors import AnimatorError, CancelledError

__all__ = ["build_parser", "main"]

EXIT_ERROR = 1
EXIT_CANCELLED = 130  # as after a signal

_COMMANDS: Mapping[str, tuple[str, str]] = {
    "demo": ("demo", "run_demo"),
    "gallery": ("demo", "run_gallery"),
    "animate": ("animate", "run_animate"),
    "extract-poses": ("poses", "run_extract_poses"),
    "align-poses": ("poses", "run_align_poses"),
    "draw-poses": ("poses", "run_draw_poses"),
    "encode-face": ("identity", "run_encode_face"),
    "evaluate": ("evaluation", "run_evaluate"),
    "train": ("training", "run_train"),
    "train-aligner": ("training", "run_train_aligner"),
    "encode-clips": ("training", "run_encode_clips"),
    "prepare-data": ("training", "run_prepare_data"),
    "convert": ("weights", "run_convert"),
    "download": ("weights", "run_download"),
    "doctor": ("weights", "run_doctor"),
}
"""Command → module in `commands` and function."""

_METHODS = ("learned", "procrustes", "rescale", "none")
_ANCHORS = ("first_frame", "reference_pose", "none")
_EVALUATED = "l1,psnr,psnr_published,ssim,lpips,fvd,csim"
_DRAW_MODES = ("thick", "exact", "fast")
_SIZE_HELP = "of the video in pixels; what the model was made for if left out"
_DRAW_MODES_HELP = "as the reference, with lines or dots below 512 px; or smooth"
_MODELS_FOLDER = "models"


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows defaults, where there is one to show."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None or action.default is False:
            return action.help
        return super()._get_help_string(action)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: Words after the program's name; None takes those of this process.

    Returns:
        Exit code: 0, or 1 after an error, or 130 when stopped by Ctrl-C. Wrong options exit with
        code 2 through `SystemExit`.
    """
    parser = build_parser()
    args = parser.parse_args(argv)
    _check_combinations(parser, args)
    console = Console(quiet=args.quiet)
    with _logging(debug=args.debug), console.interruptible():
        try:
            return _run(args, console)
        except (CancelledError, KeyboardInterrupt):
            console.complain("Stopped; no unfinished output was left.")
            return EXIT_CANCELLED
        except Exception as error:
            message = _plain_message(error)
            if args.debug or message is None:
                raise
            console.complain(f"error: {message}")
            return EXIT_ERROR
        finally:
            console.close_bar()


def _run(args: argparse.Namespace, console: Console) -> int:
    module, function = _COMMANDS[args.command]
    return getattr(importlib.import_module(f".commands.{module}", __package__), function)(
        args, console
    )


def _plain_message(error: Exception) -> str | None:
    """What to tell the user; None for errors of our own making, which need their traceback."""
    if isinstance(error, AnimatorError):
        return str(error)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return (
            f"The memory does not suffice: {str(error).splitlines()[0] if str(error) else ''} "
            "Lower --width and --height or --window, or use --precision fp16."
        )
    return None


@contextmanager
def _logging(*, debug: bool) -> Iterator[None]:
    """Show this package's log on stderr."""
    logger, handler = logging.getLogger(__package__), logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if debug else logging.WARNING)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


def _check_combinations(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    if args.command == "evaluate":
        _check_evaluate(parser, args)
    if args.command != "animate":
        return
    if not args.refine_iterations and (args.refine_start, args.refine_end) != (None, None):
        parser.error("--refine-start and --refine-end need --refine-iterations")
    given = [f"--{n}" for n in ("identity", "person") if getattr(args, n)]
    given += ["--no-identity"] if args.no_identity else []
    if len(given) > 1:
        parser.error(f"{' and '.join(given)} contradict each other; give one of them")
    if args.reference_poses is None:
        if args.align not in (None, "none"):
            parser.error(f"--align {args.align} needs the reference's pose: --reference-poses")
        if args.anchor == "reference_pose":
            parser.error("--anchor reference_pose needs --reference-poses")
    elif args.align == "none" and args.anchor != "reference_pose":
        parser.error("--reference-poses is not used with --align none; leave one of them out")


def _check_evaluate(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    needed = ("input",) if args.protocol == "misalign" else ("generated", "target")
    missing = [f"--{name}" for name in needed if getattr(args, name) is None]
    if missing:
        parser.error(f"--protocol {args.protocol} needs {' and '.join(missing)}")


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="python -m animator_core",
        description="Animate a person from one picture and a driving motion, and keep the face.",
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--quiet", action="store_true", help="no progress bars and messages")
    common.add_argument("--debug", action="store_true", help="tracebacks and a detailed log")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, text: str) -> Any:
        return commands.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            parents=[common],
            formatter_class=_HelpFormatter,
        )

    _add_demo(add("demo", "animate a drawn person with the built-in model"))
    _add_gallery(
        add("gallery", "animate many drawn scenes: parts on and off, two people, an animal")
    )
    _add_animate(add("animate", "animate a reference picture by a driving motion"))
    _add_extract(add("extract-poses", "find the poses of people in a video or picture"))
    _add_align(add("align-poses", "carry driving poses to the reference's size and place"))
    _add_draw(add("draw-poses", "draw poses as skeleton pictures"))
    _add_encode(add("encode-face", "encode a face from one or several photographs"))
    _add_evaluate(add("evaluate", "measure generated videos against their targets"))
    _add_training(add)
    _add_weights(add)
    return parser


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", default="demo.mp4", help="video; a contact sheet goes beside")
    _add_scenes(parser)


def _add_gallery(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", default="gallery", metavar="FOLDER", help="of the videos")
    _add_scenes(parser)


def _add_scenes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--frames", type=int, default=16, help="length")
    parser.add_argument("--steps", type=int, help="denoising steps; few if left out")
    parser.add_argument("--seed", type=int, default=0, help="of the noise")
    _add_device(parser)


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")


def _add_animate(parser: argparse.ArgumentParser) -> None:
    sampling, guidance, window = SamplingConfig(), GuidanceConfig(), WindowConfig()
    add = parser.add_argument_group("input and output").add_argument
    add("--reference", required=True, metavar="IMG", help="picture of the person")
    add(
        "--poses",
        required=True,
        metavar="MOTION",
        help="keypoints (.json), a skeleton video, or a folder of skeleton pictures",
    )
    add("--output", required=True, metavar="FILE", help="video (.mp4), or a folder for PNGs")
    add("--width", type=int, help=_SIZE_HELP)
    add("--height", type=int, help=_SIZE_HELP)
    add("--fit", default="letterbox", choices=("letterbox", "crop", "stretch"), help="to the size")
    add("--frames", type=int, default=0, help="frames to animate; 0 is the whole motion")
    add("--fps", type=float, help="of the written video; the motion's own if left out, or else 8")
    add = parser.add_argument_group("model").add_argument
    add("--model", default="demo", metavar="demo|DIR", help="built-in demo, or a models folder")
    add("--stable-video", metavar="DIR", help="Stable Video Diffusion, if not in the models folder")
    add("--precision", default="auto", choices=("auto", "fp32", "fp16", "bf16"), help="of weights")
    _add_device(parser)
    add = parser.add_argument_group("sampling").add_argument
    steps_help = f"denoising steps; {sampling.steps} if left out, or fewer for the built-in model"
    add("--steps", type=int, help=steps_help)
    add("--seed", type=int, default=sampling.seed, help="of all noise")
    least, most = (f"; {value:g} if left out" for value in (guidance.minimum, guidance.maximum))
    note = ", or 1 for the built-in model"
    add("--guidance-min", type=float, help=f"guidance at the first frame{least}{note}")
    add("--guidance-max", type=float, help=f"guidance at the last frame{most}{note}")
    add("--window", type=int, default=window.frames, help="frames sampled together")
    add("--overlap", type=int, default=window.overlap, help="frames that windows share")
    add(
        "--anchor",
        default=window.anchor,
        choices=_ANCHORS,
        help="what every window starts with",
    )
    add("--decode-chunk", type=int, default=DecodeConfig().chunk_frames, help="frames at a time")
    _add_animate_parts(parser)


def _add_animate_parts(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("poses").add_argument
    add("--reference-poses", metavar="JSON", help="keypoints of the reference picture")
    add("--align", choices=_METHODS, help="to --reference-poses; learned if these are given")
    add("--draw-mode", default=_DRAW_MODES[0], choices=_DRAW_MODES, help=_DRAW_MODES_HELP)
    sampling = SamplingConfig()
    add = parser.add_argument_group("identity").add_argument
    add(
        "--identity",
        nargs="+",
        metavar="FILE",
        help="photographs of the person, or a file of encode-face; the reference if left out",
    )
    add(
        "--person",
        nargs="+",
        action="append",
        metavar=("FACE", "MASK"),
        help="repeat for each person of the motion: a photograph or file of encode-face, and "
        "where it acts, if not at that person's head (picture or video, white)",
    )
    add("--no-identity", action="store_true", help="for masks, cartoons and back views")
    add("--identity-scale", type=float, default=sampling.identity_scale, help="of the ID adapter")
    add(
        "--identity-fade",
        type=float,
        default=sampling.identity_fade,
        help="0..1, how far it fades where the driven face is not seen",
    )
    add("--faces", help="folder of insightface's antelopev2; default: the model's folder")
    add = parser.add_argument_group("face refinement").add_argument
    add("--refine-iterations", type=int, default=0, help="per step; 0 is off")
    add("--refine-start", type=int, help="first step that is refined")
    add("--refine-end", type=int, help="last step that is refined")


def _add_extract(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--input", required=True, metavar="VIDEO_OR_IMAGE", help="or a folder of pictures")
    add("--output", required=True, metavar="JSON", help="keypoints")
    add("--models", default=_MODELS_FOLDER, metavar="DIR", help="models folder with DWPose/ in it")
    add("--detector", metavar="ONNX", help="YOLOX person detector, instead of the folder's")
    add("--pose-model", metavar="ONNX", help="RTMPose whole-body network, likewise")
    add("--frames", type=int, default=0, help="read at most so many; 0 is all")
    add("--people", default="largest", help="largest, all, or a number from the left")
    add("--confidence", type=float, default=0.3, help="that body joints must exceed")


def _add_align(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--reference", required=True, metavar="JSON", help="pose of the reference picture")
    add("--driving", required=True, metavar="JSON", help="poses of the motion")
    add("--output", required=True, metavar="JSON", help="aligned poses")
    add("--method", choices=_METHODS, default="learned", help="how to align")


def _add_draw(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--poses", required=True, metavar="JSON", help="keypoints")
    add("--output", required=True, metavar="FOLDER_OR_VIDEO", help="pictures or .mp4")
    add("--width", type=int, help="in pixels; the canvas's if left out")
    add("--height", type=int, help="likewise; with both given, poses are stretched to the size")
    add("--mode", default=_DRAW_MODES[0], choices=_DRAW_MODES, help=_DRAW_MODES_HELP)
    add("--fps", type=float, default=8.0, help="of a video")


def _add_encode(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--input", required=True, nargs="+", metavar="IMG", help="photographs of one person")
    add("--faces", required=True, metavar="DIR", help="folder of insightface's antelopev2")
    add("--output", required=True, metavar="FILE", help="the identity (.safetensors)")
    add("--face", type=int, metavar="N", help="counted from the left, from 0; largest if left out")
    add("--threshold", type=float, default=0.5, help="least certainty of the face detector, 0..1")


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    window = WindowConfig()
    add = parser.add_argument_group("input and output").add_argument
    add("--generated", metavar="VIDEO", help="or a folder of pictures, or a folder of clips")
    add("--target", metavar="VIDEO", help="likewise; clips of folders are paired by name")
    add("--identity", metavar="IMG", help="face to keep; or a folder with one IMG per clip")
    add("--output", required=True, metavar="JSON", help="metrics; a folder for misaligned pairs")
    add("--report", metavar="MD", help="also a Markdown table, with a picture strip beside it")
    add = parser.add_argument_group("metrics").add_argument
    add("--metrics", default=_EVALUATED, metavar="A,B", help="names, separated by commas")
    add("--resize", metavar="SIZE", help="target, or WIDTHxHEIGHT for both; else sizes must match")
    add("--trim", action="store_true", help="compare what both have, if lengths differ")
    add("--metric-weights", metavar="DIR", help="feature networks of LPIPS and FVD")
    add("--faces", metavar="DIR", help="antelopev2, for csim; else in --metric-weights, --models")
    add("--models", default=_MODELS_FOLDER, metavar="DIR", help="models folder with DWPose/ in it")
    add("--driven-poses", metavar="JSON", help="for pose_error; else found in the target")
    add("--generated-poses", metavar="JSON", help="for pose_error; else found in the frames")
    add("--window", type=int, default=window.frames, help="frames sampled together, for seams")
    add("--overlap", type=int, default=window.overlap, help="frames that windows share, for seams")
    add("--anchor", default=window.anchor, choices=_ANCHORS, help="of the windows, for seams")
    _add_device(parser)
    add = parser.add_argument_group("misaligned test pairs").add_argument
    protocols = ("paired", "misalign")
    add("--protocol", default="paired", choices=protocols, help="misalign makes test pairs")
    add("--input", metavar="DIR", help="driving motions: keypoint files or clips")
    add("--seed", type=int, default=0, help="of the random transforms")


def _add_training(add_command: Any) -> None:
    add = add_command("train", "train a network; its settings say which").add_argument
    add("config", metavar="CONFIG.toml", help="settings of the run")
    add("--stop-after", type=int, metavar="STEP", help="save and end there; a later run goes on")
    add = add_command("train-aligner", "train the network that aligns poses").add_argument
    add("config", metavar="CONFIG.toml", help="settings of the run")
    add = add_command(
        "encode-clips", "encode the drawn clips of an animation training"
    ).add_argument
    add("config", metavar="CONFIG.toml", help="settings of the training")
    add("--part", default="0/1", metavar="I/N", help="one of N parts, for N processes at once")
    add = add_command("prepare-data", "make training data from videos").add_argument
    add("--videos", required=True, metavar="FOLDER", help="videos, or folders of pictures")
    add("--output", required=True, metavar="FOLDER", help="gets rec/ and vec/ with a folder each")
    add("--models", default=_MODELS_FOLDER, metavar="DIR", help="with DWPose/ and antelopev2/")
    add("--detector", metavar="ONNX", help="YOLOX person detector, instead of the folder's")
    add("--pose-model", metavar="ONNX", help="RTMPose whole-body network, likewise")
    add("--faces", metavar="DIR", help="antelopev2, instead of the folder's")
    add("--frames", type=int, default=0, help="of a video, at most; 0 is all")
    add("--least-seen", type=float, default=0.5, help="share of frames that must show a person")


def _add_weights(add_command: Any) -> None:
    add = add_command("convert", "turn pickled weights into safetensors").add_argument
    add("--input", required=True, metavar="DIR_OR_PTH", help="models folder or weight file")
    add("--output", required=True, metavar="DIR", help="folder of the result")
    add = add_command("download", "fetch the published weights, checked").add_argument
    add("--output", "--models", default=_MODELS_FOLDER, metavar="DIR", help="models folder")
    add(
        "--components",
        nargs="+",
        metavar="NAME",
        help="adapter, stable-video, dwpose, antelopev2; all if left out",
    )
    add("--revision", metavar="HASH", help="commit of the hub's repository")
    add("--accept-licences", action="store_true", help="of what is fetched; shown without this")
    add("--endpoint", metavar="URL", help="another address of the hub, such as a mirror")
    add = add_command("doctor", "say what is installed and found, and what to do").add_argument
    add("--models", default=_MODELS_FOLDER, metavar="DIR", help="models folder")
    add("--stable-video", metavar="DIR", help="Stable Video Diffusion, if it is elsewhere")
