"""How well poses are aligned: on freshly generated motions, and on real clips if there are any.

    python benchmarks/alignment.py [--cases 3000] [--seed 1000] [--weights FILE ...]
    python benchmarks/alignment.py --clips FOLDER_OF_POSE_FILES

Generated motions have a known true map, so errors are mean joint distances to where the joints
belong, in torso lengths of the reference. On real clips a clip is turned, scaled and shifted by a
known similarity and aligned to another moment of the same clip.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from animator_core.pose.aligner_features import aligner_features
from animator_core.pose.keypoints import load_pose_file, part_array
from animator_core.pose.learned_fit import DEFAULT_WEIGHTS, load_aligner, predict_maps
from animator_core.pose.robust_fit import ClipPair, fit_clip
from animator_core.pose.similarity import as_complex, fit_least_squares
from animator_core.training.aligner import alignment_error
from animator_core.training.aligner_data import AlignerCases, CaseConfig, make_cases
from animator_core.training.motions import KINDS

LINE_JOINTS = [0, 1, 2, 5, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17]
STILL = {"rotation_deg": 0.0, "scale": (1.0, 1.0), "shift": 0.0}
MISALIGNMENTS = {
    "turned by up to 30 degrees": {**STILL, "rotation_deg": 30.0},
    "scaled by 0.4 to 2.5": {**STILL, "scale": (0.4, 2.5)},
    "shifted by up to half a body": {**STILL, "shift": 0.5},
    "all three": {},
    "all three, another body": {"cross_body": 1.0},
    "all three, half bodies": {"half_body": 1.0},
}


def least_squares(pair: ClipPair):
    seen = (pair.driving_confidence > 0.3) & (pair.reference_confidence[:, None] > 0.3)
    flat = (len(seen), -1)
    return fit_least_squares(
        pair.driving.reshape(flat), pair.target.reshape(flat), seen.reshape(flat).astype(float)
    )


def line_fit(pair: ClipPair):
    """The published rescaling, case by case."""
    factors, shifts = [], []
    for a, ca, b, cb in zip(
        pair.driving,
        pair.driving_confidence,
        pair.reference,
        pair.reference_confidence,
        strict=True,
    ):
        keep = [j for j in LINE_JOINTS if cb[j] > 0.3]
        seen = ca[:, keep] > 0
        source, goal = a[:, keep][seen], np.broadcast_to(b[keep], seen.shape)[seen]
        if len(source) < 2:
            factors.append(1.0)
            shifts.append(0.0)
            continue
        scale, shift_y = np.polyfit(source.imag, goal.imag, 1)
        factors.append(scale)
        shifts.append((goal.real - scale * source.real).mean() + 1j * shift_y)
    return np.array(factors, dtype=complex), np.array(shifts, dtype=complex)


def all_maps(pair: ClipPair, weights: list[Path]) -> dict:
    identity = (np.ones(len(pair.driving), complex), np.zeros(len(pair.driving), complex))
    robust = fit_clip(pair)
    maps = {
        "none": identity,
        "rescale": line_fit(pair),
        "least squares": least_squares(pair),
        "procrustes": (robust.factor, robust.shift),
    }
    for path in weights:
        net = load_aligner(path)
        name = "learned" if path == DEFAULT_WEIGHTS else path.parent.name
        maps[name] = predict_maps(net, aligner_features(pair, guided=net.config.guided))
    return maps


def shape_error(cases: AlignerCases, factor, shift):
    """The same error with the clip's mean place put right."""
    wrong = (factor - cases.factor)[:, None, None] * cases.clean
    wrong = wrong + (shift - cases.shift)[:, None, None]
    seen = cases.pair.driving_confidence > 0
    count = np.maximum(seen.sum((1, 2)), 1)
    middle = (wrong * seen).sum((1, 2)) / count
    return (np.abs(wrong - middle[:, None, None]) * seen).sum((1, 2)) / count / cases.torso


def interval(difference, statistic, rounds=2000):
    """95 % bootstrap interval of a statistic of paired values."""
    rng = np.random.default_rng(0)
    picks = rng.integers(len(difference[0]), size=(rounds, len(difference[0])))
    values = [statistic(difference[0][p]) - statistic(difference[1][p]) for p in picks]
    return np.quantile(values, [0.025, 0.975])


def row(name, errors, shapes):
    return (
        f"| {name} | {np.median(errors):.3f} | {errors.mean():.3f} | "
        f"{np.quantile(errors, 0.9):.3f} | {np.median(shapes):.3f} | {shapes.mean():.3f} |"
    )


HEAD = "| | median | mean | 90 % | shape, median | shape, mean |\n|---|---|---|---|---|---|"


def p90(values):
    return np.quantile(values, 0.9)


def generated(count: int, seed: int, weights: list[Path]) -> None:
    print(f"## Generated motions, {count} cases, seed {seed}\n\n{HEAD}")
    cases = make_cases(np.random.default_rng(seed), count)
    maps = all_maps(cases.pair, weights)
    errors = {name: alignment_error(cases, *m) for name, m in maps.items()}
    for name, m in maps.items():
        print(row(name, errors[name], shape_error(cases, *m)))
    for path in weights:
        name = "learned" if path == DEFAULT_WEIGHTS else path.parent.name
        for other in ("procrustes", "least squares"):
            pair = (errors[name], errors[other])
            mean, tail = interval(pair, np.mean), interval(pair, p90)
            print(
                f"\n{name} minus {other}: mean {pair[0].mean() - pair[1].mean():+.4f} "
                f"[{mean[0]:+.4f}, {mean[1]:+.4f}], 90 % {p90(pair[0]) - p90(pair[1]):+.4f} "
                f"[{tail[0]:+.4f}, {tail[1]:+.4f}]; mean ratio "
                f"{pair[0].mean() / pair[1].mean():.3f}"
            )
    print("\n### By motion (mean error)\n\n| | " + " | ".join(maps) + " |")
    print("|---" * (len(maps) + 1) + "|")
    groups = {kind: cases.kinds == i for i, kind in enumerate(KINDS)}
    groups |= {
        "same body": ~cases.cross_body,
        "another body": cases.cross_body,
        "half bodies": cases.half_body,
    }
    for name, members in groups.items():
        print(
            f"| {name} | " + " | ".join(f"{e[members].mean():.3f}" for e in errors.values()) + " |"
        )


def misalignments(count: int, seed: int, weights: list[Path]) -> None:
    print(f"\n### By misalignment (mean / 90 % error, {count} cases each)\n")
    for index, (name, settings) in enumerate(MISALIGNMENTS.items()):
        config = replace(CaseConfig(), **settings)
        cases = make_cases(np.random.default_rng([seed, index]), count, config)
        maps = all_maps(cases.pair, weights)
        if index == 0:
            print("| | " + " | ".join(maps) + " |\n" + "|---" * (len(maps) + 1) + "|")
        errors = [alignment_error(cases, *m) for m in maps.values()]
        print(f"| {name} | " + " | ".join(f"{e.mean():.3f} / {p90(e):.3f}" for e in errors) + " |")


def real_cases(folder: Path, count: int, seed: int, frames: int = 48) -> list[AlignerCases]:
    """Clips of real people with a known misalignment, one case each."""
    rng = np.random.default_rng(seed)
    clips = [load_pose_file(p) for p in sorted(folder.glob("*.json"))]
    clips = [
        c
        for c in clips
        if len(c) > frames + 24 and (part_array(c, "body")[..., 2] > 0.3).mean() > 0.4
    ]
    if not clips:
        raise SystemExit(f"No clip in {folder} shows a body for more than {frames + 24} frames.")
    result = []
    while len(result) < count:
        clip = clips[len(result) % len(clips)]
        body = part_array(clip, "body")
        start, other = rng.integers(len(body) - frames), rng.integers(len(body))
        goal = body[other]
        near = start - 12 <= other <= start + frames + 12
        if near or (goal[:, 2] > 0.3).sum() < 9 or not (goal[[1, 8, 11], 2] > 0.3).all():
            continue
        clean, seen = as_complex(body[start : start + frames]), body[start : start + frames, :, 2]
        height = clip[0].height
        turn = np.exp(rng.uniform(np.log(0.45), np.log(2.2)) + 1j * rng.uniform(-0.35, 0.35))
        move = (rng.uniform(-0.3, 0.3, 2) * height) @ np.array([1, 1j])
        moved = turn * clean + move
        noise = rng.normal(0, 0.004 * height * abs(turn), (*moved.shape, 2)) @ np.array([1, 1j])
        z = as_complex(goal)
        pair = ClipPair(
            driving=np.where(seen > 0, moved + noise, 0)[None],
            driving_confidence=seen.clip(0, 1)[None],
            reference=z[None],
            reference_confidence=goal[None, :, 2].clip(0, 1),
        )
        result.append(
            AlignerCases(
                pair=pair,
                clean=moved[None],
                factor=np.array([1 / turn]),
                shift=np.array([-move / turn]),
                torso=np.array([abs(z[1] - (z[8] + z[11]) / 2)]),
                kinds=np.array([0]),
                cross_body=np.array([False]),
                half_body=np.array([False]),
            )
        )
    return result


def real(folder: Path, count: int, seed: int, weights: list[Path]) -> None:
    print(f"\n## Real clips, {count} cases, seed {seed}\n\n{HEAD}")
    errors: dict[str, list] = {}
    for case in real_cases(folder, count, seed):
        for name, m in all_maps(case.pair, weights).items():
            entry = (alignment_error(case, *m)[0], shape_error(case, *m)[0])
            errors.setdefault(name, []).append(entry)
    for name, values in errors.items():
        print(row(name, *np.array(values).T))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--weights", type=Path, nargs="+", default=[DEFAULT_WEIGHTS])
    parser.add_argument("--clips", type=Path, help="folder of POSE_KEYPOINT files")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for path in arguments.weights:
        net = load_aligner(path)
        print(f"{path.name}: {json.dumps(vars(net.config))}")
    generated(arguments.cases, arguments.seed, arguments.weights)
    misalignments(arguments.cases // 3, arguments.seed, arguments.weights)
    if arguments.clips:
        real(arguments.clips, min(arguments.cases, 200), arguments.seed, arguments.weights)


if __name__ == "__main__":
    main()
