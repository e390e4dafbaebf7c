"""Measures the demo family on held-out characters and motions, with 95 % intervals.

    python benchmarks/demo_family.py --clips 64 --card animator_core/demo/weights/README.md \\
        --output animator_core/demo/weights/training/figures.json

Nothing is written unless it is asked for: the figures, and the card's table between its two marks.
Nothing here is timed; every figure is a mean over clips that training never saw.
"""

from __future__ import annotations

import argparse
import json
import sys
from copy import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from animator_core.commands.models import make_devices
from animator_core.commands.showcase import Scene, Theatre, stage
from animator_core.config import WindowConfig
from animator_core.console import Console
from animator_core.demo.model import DEMO_FOLDER, DEMO_STEPS
from animator_core.errors import NoFaceError
from animator_core.evaluation.intervals import mean_with_interval
from animator_core.evaluation.misalign import MisalignConfig, misalign, random_misalignment
from animator_core.evaluation.pose_error import pose_error
from animator_core.evaluation.psnr import psnr
from animator_core.evaluation.regions import box_region, frame_values
from animator_core.evaluation.seams import jumps, seam_ratio, window_borders
from animator_core.frames import from_model_range, picture_to_uint8, to_model_range
from animator_core.pose.alignment import AlignmentConfig, align
from animator_core.training.animation_networks import load_recogniser
from animator_core.training.drawn_clips import SPLIT_SEEDS, DrawnClipConfig, draw_clip
from animator_core.training.hidden_heads import head_box

ALONE = DrawnClipConfig(frames=4, pairs=0.0)
TOGETHER = DrawnClipConfig(frames=4, pairs=1.0, close_ups=0.0, half_bodies=1.0)
MARKS = ("<!-- figures -->", "<!-- end of figures -->")
ROWS = {
    "VAE alone: PSNR whole, head [dB]": ("≥ 28, ≥ 23", "vae_psnr", "vae_psnr_head"),
    "copying the reference: PSNR whole, head [dB]": ("", "copy_psnr", "copy_psnr_head"),
    "generated frames: PSNR whole, head [dB]": ("≥ 24, ≥ 19", "on_psnr", "on_psnr_head"),
    "pose error of generated frames [torso lengths]": ("≤ .10", "pose_error_on"),
    "… of the drawn truth, as the same network finds it": ("", "pose_error_truth"),
    "… of a still picture": ("", "pose_error_still"),
    "CSIM of the drawn truth (the ceiling)": ("", "csim_truth"),
    "CSIM of the truth through the VAE (the family's ceiling)": ("", "csim_vae"),
    "CSIM, adapter on": ("≥ .75", "csim_on"),
    "CSIM, adapter off": ("", "csim_off"),
    "gain by the adapter": ("≥ .05", "adapter_gain"),
    "gain by the adapter, the reference's head hidden": ("≥ .20", "hidden_gain"),
    "CSIM with HJB refinement (3 iterations in the last half of the steps)": ("", "csim_refined"),
    "gain of CSIM by HJB refinement": ("≥ .03", "refine_gain"),
    "change of the background's L1 by it, as a share": ("< .01", "refine_change_away"),
    "another recogniser's CSIM: drawn truth, through the VAE": ("", "judged_truth", "judged_vae"),
    "… adapter on, adapter off": ("", "judged_on", "judged_off"),
    "… with HJB refinement": ("", "judged_refined"),
    "two people: likeness to the face that each was given": ("", "pair_own"),
    "… to the other one's": ("", "pair_other"),
    "faces exchanged: likeness to the face that each was given": ("", "exchanged_own"),
    "… to the other one's, who stands there in the reference": ("", "exchanged_other"),
    "… exchanged, all heads hidden: to the face that each was given": ("", "exchanged_hidden_own"),
    "… to the other one's face": ("", "exchanged_hidden_other"),
    "… exchanged, with HJB refinement: to the face that each was given": (
        "",
        "exchanged_refined_own",
    ),
    "… to the face of the other one, who stands there": ("", "exchanged_refined_other"),
    "by how much exchanging turns a face from one to the other": ("", "exchange_turn"),
    "misaligned motion, pose error: as it is": ("", "align_misaligned"),
    "… after rescale": ("", "align_rescale"),
    "… after the learned alignment": ("≤ half of rescale's", "align_learned"),
    "… reference framed differently: after rescale": ("", "align_elsewhere_rescale"),
    "… reference framed differently: after the learned alignment": ("", "align_elsewhere_learned"),
    "window seams: jump at borders against elsewhere": ("≤ 1.2", "seams"),
    "… of the drawn truth": ("", "seams_truth"),
}
"""Title → target, and the figures of a row."""


def head_regions(clip):
    height, width = clip.frames.shape[1:3]
    return [
        box_region(head_box(box[0], height, width), height, width) if box[0].any() else None
        for box in clip.face_boxes
    ]


def mean(values):
    known = np.asarray(values, dtype=float)
    return float(np.nanmean(known)) if np.isfinite(known).any() else float("nan")


def compared(pictures, clip, name):
    """PSNR of pictures against the truth, whole and head."""
    heads = head_regions(clip)
    return {
        f"{name}_psnr": mean(frame_values(psnr, pictures, clip.frames)),
        f"{name}_psnr_head": mean(frame_values(psnr, pictures, clip.frames, heads)),
    }


def through_vae(theatre, frames):
    with torch.no_grad():
        vae = theatre.models.vae
        latents = vae.encode_chunks(to_model_range(frames)) * vae.scaling_factor
        restored = torch.cat(list(vae.iter_decode(latents, 8, theatre.devices.device)))
    return picture_to_uint8(from_model_range(restored))


def similarity(theatre, staged, frames):
    return theatre.similarity(staged, frames)[0].mean


def away_from_face(frames, clip):
    """L1 against the truth outside the heads."""
    errors = []
    for frame, truth, region in zip(frames, clip.frames, head_regions(clip), strict=True):
        away = ~region if region is not None else np.ones(frame.shape[:2], bool)
        errors.append(np.abs(frame[away].astype(int) - truth[away]).mean() / 255)
    return mean(errors)


def measure_clip(theatre, number, args):
    staged = stage(Scene(name="", title="", number=number, data=ALONE))
    clip, row = staged.clip, {}
    restored = through_vae(theatre, clip.frames)
    row |= compared(restored, clip, "vae")
    row |= compared([clip.reference] * len(clip.frames), clip, "copy")
    variants = {
        "on": {},
        "off": {"identity": "off"},
        "hidden_on": {"hidden_head": True},
        "hidden_off": {"hidden_head": True, "identity": "off"},
        "refined": {"refine_iterations": args.iterations},
    }
    frames = {}
    for name, changes in variants.items():
        one = stage(replace(staged.scene, **changes))
        frames[name] = theatre.perform(one, args.steps).frames
        row |= compared(frames[name], clip, name)
    shown = {"truth": clip.frames, "vae": restored, **frames}
    for name, pictures in shown.items():
        row[f"csim_{name}"] = similarity(theatre, staged, pictures)
        if args.judge is not None:
            row[f"judged_{name}"] = similarity(args.judge, staged, pictures)
    row["adapter_gain"] = row["csim_on"] - row["csim_off"]
    row["hidden_gain"] = row["csim_hidden_on"] - row["csim_hidden_off"]
    row["refine_gain"] = row["csim_refined"] - row["csim_on"]
    before, after = (away_from_face(frames[name], clip) for name in ("on", "refined"))
    row["refine_change_away"] = abs(after - before) / before
    if args.extractor is not None:
        for name, pictures in (("on", frames["on"]), ("truth", clip.frames)):
            found = args.extractor.extract(pictures)
            row[f"pose_error_{name}"] = pose_error(found, clip.poses).mean
        still = [clip.reference_pose] * len(clip.poses)
        row["pose_error_still"] = pose_error(still, clip.poses).mean
    return row


def measure_alignment(number):
    """Pose error after each alignment of a misaligned motion.

    Where the reference has the motion's framing, the motion as it was is what an alignment to the
    reference should bring back. Where it is framed a little differently, as in all other figures,
    nothing in the poses tells by how much, and that is part of every method's error.
    """
    row = {}
    for name, same in (("align", True), ("align_elsewhere", False)):
        clip = draw_clip(SPLIT_SEEDS["test"][number], ALONE, same_framing=same)
        size = (ALONE.width, ALONE.height)
        moved = misalign(clip.poses, random_misalignment(str(number), *size, MisalignConfig()))
        row[f"{name}_misaligned"] = pose_error(moved, clip.poses).mean
        for method in ("rescale", "procrustes", "learned"):
            aligned = align(moved, clip.reference_pose, AlignmentConfig(method=method)).frames
            row[f"{name}_{method}"] = pose_error(aligned, clip.poses).mean
    return row


def measure_seams(theatre, number, args):
    frames = args.long_frames
    scene = Scene(name="", title="", number=number, data=replace(ALONE, frames=frames))
    performed = theatre.perform(stage(scene), args.steps)
    borders = window_borders(frames, WindowConfig(anchor="reference_pose"))
    truth = seam_ratio(jumps(performed.staged.clip.frames), borders)
    return {"seams": seam_ratio(jumps(performed.frames), borders), "seams_truth": truth}


def measure_pair(theatre, number, args):
    """How alike two people's faces are to the face that each was given, and to the other's."""
    staged = stage(Scene(name="", title="", number=number, data=TOGETHER))
    try:
        faces = theatre.embeddings(staged.clip)
    except NoFaceError:
        return {}
    row = {}
    variants = {
        "pair": {"identity": "on"},
        "exchanged": {"identity": "exchanged"},
        "exchanged_hidden": {"identity": "exchanged", "hidden_head": True},
        "exchanged_refined": {"identity": "exchanged", "refine_iterations": args.iterations},
    }
    for name, changes in variants.items():
        one = stage(replace(staged.scene, **changes))
        pictures = to_model_range(theatre.perform(one, args.steps).frames)
        likeness = np.array(
            [
                [theatre.likeness(staged, pictures, place, face).mean for face in faces]
                for place in (0, 1)
            ]
        )
        own, other = np.diag(likeness), np.diag(likeness[:, ::-1])
        if one.scene.identity == "exchanged":
            own, other = other, own
        row |= {f"{name}_own": mean(own), f"{name}_other": mean(other)}
    row["exchange_turn"] = (
        row["pair_own"] - row["pair_other"] + row["exchanged_own"] - row["exchanged_other"]
    )
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--pairs", type=int, default=24)
    parser.add_argument("--long-clips", type=int, default=8)
    parser.add_argument("--long-frames", type=int, default=40)
    parser.add_argument("--steps", type=int, default=DEMO_STEPS)
    parser.add_argument("--iterations", type=int, default=3)
    parser.add_argument("--first", type=int, default=1000, help="first held-out clip")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--judge",
        type=Path,
        help="weights of another recogniser, which the refinement never climbed, for CSIM",
    )
    parser.add_argument("--output", type=Path, help="file of all figures (.json)")
    parser.add_argument("--card", type=Path, help="model card whose table is to be renewed")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    theatre = Theatre(Console(quiet=True), make_devices(args.device))
    args.extractor = open_extractor()
    args.judge = other_recogniser(theatre, args.judge)
    columns: dict[str, list[float]] = {}
    for index in range(args.clips):
        number = args.first + index
        row = measure_clip(theatre, number, args) | measure_alignment(number)
        if index < args.long_clips:
            row |= measure_seams(theatre, number, args)
        if index < args.pairs:
            row |= measure_pair(theatre, number, args)
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
        print(f"{index + 1}/{args.clips}", *(f"{k} {mean(v):.3f}" for k, v in columns.items()))
        if args.output:
            write_figures(columns, args.output)
    table = figures_table(columns)
    print(table)
    if args.card:
        before, _, rest = args.card.read_text(encoding="utf-8").partition(MARKS[0])
        _, _, after = rest.partition(MARKS[1])
        content = f"{before}{MARKS[0]}\n{table}\n{MARKS[1]}{after}"
        args.card.write_text(content, encoding="utf-8")


def figures_table(columns):
    """Mean ± half of the 95 % interval over clips, beside the targets."""
    counts = {mean_with_interval(values).count for values in columns.values()}
    lines = [f"{max(counts)} clips, {min(counts)} at least.", ""]
    lines += ["| Quantity | Target | Measured |", "|---|---|---|"]
    for title, (target, *names) in ROWS.items():
        if all(name in columns for name in names):
            found = ", ".join(str(mean_with_interval(columns[name])) for name in names)
            lines.append(f"| {title} | {target} | {found} |")
    return "\n".join(lines)


def write_figures(columns, path):
    """After every clip: a run that is stopped keeps what it has."""
    figures = {}
    for name, values in columns.items():
        known = mean_with_interval(values)
        ends = {k: None if np.isnan(v) else v for k, v in vars(known).items() if k != "level"}
        figures[name] = ends
    path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def other_recogniser(theatre, path):
    """The same theatre with another recogniser, if a file of one is given."""
    if path is None:
        return None
    judge = copy(theatre)
    judge.recogniser = load_recogniser(path)
    return judge


def open_extractor():
    """The family's own detectors, if they are there."""
    detector, network = (
        DEMO_FOLDER / "DWPose" / name for name in ("yolox_l.onnx", "dw-ll_ucoco_384.onnx")
    )
    if not detector.is_file() or not network.is_file():
        return None
    from animator_core.pose.extraction import PoseExtractor

    return PoseExtractor(detector, network)


if __name__ == "__main__":
    main()
