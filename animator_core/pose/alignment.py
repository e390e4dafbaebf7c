"""Carry driving poses to a reference pose: the entry point of pose alignment.

Methods: `none` (only the canvas changes), `rescale` (the published line fit), `procrustes` (robust
closed-form similarity) and `learned` (the trained aligner, which starts from that fit).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from ..errors import ConfigError, NoPoseError
from .alignment_config import AlignmentConfig, AlignmentResult, Method, PersonTransform
from .frame_fit import fit_frames
from .keypoints import FramePose, PersonPose, PoseSequence
from .line_fit import fit_line
from .matching import match_people
from .person_fit import CommonPoints, common_points, fit_person, misfit
from .retargeting import retarget_limbs
from .similarity import ComplexArray, FloatArray, PlanarMap, as_complex

__all__ = ["AlignmentConfig", "AlignmentResult", "Method", "PersonTransform", "align"]

_ALONE_MOVE = 0.08  # torso lengths: a smaller correction of a clip that fits already is noise
_ALONE_GAIN = 0.02  # torso lengths by which the misfit must fall for such a correction


def _canvas_map(driving: FramePose, reference: FramePose) -> PlanarMap:
    """The driving canvas laid into the reference's: as large as fits, in the middle."""
    scale = min(reference.width / driving.width, reference.height / driving.height)
    return PlanarMap(
        scale_x=scale,
        scale_y=scale,
        shift_x_px=(reference.width - scale * driving.width) / 2,
        shift_y_px=(reference.height - scale * driving.height) / 2,
    )


def _check_canvases(driving: PoseSequence) -> None:
    if not driving:
        raise ConfigError("The driving clip has no frames; give at least one.")
    sizes = {(f.width, f.height) for f in driving}
    if len(sizes) > 1:
        raise ConfigError(
            f"The driving frames have canvases of different sizes ({sorted(sizes)}); bring them to "
            "one size first."
        )


def _track(driving: PoseSequence, person: int) -> list[PersonPose]:
    empty = PersonPose()
    return [f.people[person] if person < len(f.people) else empty for f in driving]


def _moved(person: PersonPose, to: PlanarMap) -> PersonPose:
    """All points that have a place are carried along, whatever their confidence."""

    def part(points: FloatArray) -> FloatArray:
        out = points.copy()
        placed = points.any(axis=1)
        out[placed, :2] = to(points[placed, :2])
        return out

    return PersonPose(
        body=part(person.body),
        face=part(person.face),
        left_hand=part(person.left_hand),
        right_hand=part(person.right_hand),
    )


def _apply(points: CommonPoints, maps: Sequence[PlanarMap]) -> ComplexArray:
    """The clip's common points in reference pixels; one map, or one per frame."""
    flat = np.stack([points.driving.real, points.driving.imag], -1)
    if len(maps) == 1:
        return as_complex(maps[0](flat))
    return as_complex(np.stack([to(frame) for to, frame in zip(maps, flat, strict=True)]))


def _aligned_already(points: CommonPoints, canvas: PlanarMap, found: PlanarMap) -> bool:
    """Whether the correction is within what noise and motion alone would ask for."""
    before, after = _apply(points, [canvas]), _apply(points, [found])
    seen = points.weights > 0
    move = np.abs(after - before)[seen].mean() / points.torso
    gain = misfit(points, before).distance - misfit(points, after).distance
    return bool(move < _ALONE_MOVE and gain < _ALONE_GAIN)


def _frame_maps(
    points: CommonPoints, clip_map: PlanarMap, smoothing_frames: float
) -> list[PlanarMap]:
    factor, shift = fit_frames(
        points.driving,
        points.weights,
        points.reference,
        (complex(clip_map.scale * np.exp(1j * clip_map.angle_rad)), complex(*clip_map.shift_px)),
        unit=points.unit,
        sigma_frames=smoothing_frames,
    )
    return [PlanarMap.from_complex(f, s) for f, s in zip(factor, shift, strict=True)]


def _align_person(
    track: Sequence[PersonPose], goal: PersonPose, canvas: PlanarMap, config: AlignmentConfig
) -> tuple[PersonTransform, list[str]]:
    """Transform of one person (indices are filled in by the caller) and warnings.

    Raises:
        NoPoseError: If clip and reference share nothing to align by.
    """
    points = common_points(track, goal, config.confidence_threshold)
    method: Literal["procrustes", "learned"] = (
        "learned" if config.method == "learned" else "procrustes"
    )
    fit = fit_person(points, method)
    warnings = list(fit.warnings)
    if points.part != "body":
        warnings.append(
            f"The body is not seen in both clip and reference; the {points.part} is aligned."
        )
    clip_map = fit.map
    if config.keep_aligned and _aligned_already(points, canvas, clip_map):
        clip_map = canvas
    maps = [clip_map]
    if config.per_frame:
        maps = _frame_maps(points, clip_map, config.smoothing_frames)
    centre = np.array([points.centre.real, points.centre.imag])
    maps = [canvas.blended(m, config.strength, centre) for m in maps]
    transform = PersonTransform(
        person=0,
        reference_person=None,
        method=fit.method,
        map=canvas.blended(clip_map, config.strength, centre),
        residual=misfit(points, _apply(points, maps)).distance,
        frame_maps=tuple(maps) if config.per_frame else (),
    )
    return transform, warnings


def _align_people(
    tracks: Sequence[Sequence[PersonPose]],
    reference: FramePose,
    canvas: PlanarMap,
    config: AlignmentConfig,
) -> tuple[list[PersonTransform], list[str]]:
    """Transforms of all driving people, by similarity methods."""
    if all(p.is_empty for p in reference.people):
        raise NoPoseError(
            "The reference pose has no person to align to: no body, face or hands were found. "
            "Choose a picture in which a person is seen, or method 'none'."
        )
    partners = match_people(tracks, reference.people, config.matching)
    found: dict[int, PersonTransform] = {}
    warnings: list[str] = []
    failure: NoPoseError | None = None
    for person, partner in partners.items():
        try:
            transform, notes = _align_person(
                tracks[person], reference.people[partner], canvas, config
            )
        except NoPoseError as error:
            failure = failure or error
            warnings.append(f"Person {person}: {error}")
            continue
        found[person] = replace(transform, person=person, reference_person=partner)
        warnings += notes if len(tracks) == 1 else [f"Person {person}: {note}" for note in notes]
    if not found:
        raise failure or NoPoseError(
            "No driving person has a counterpart in the reference; person numbers in the clip and "
            "in the reference differ. Match people by position, or choose method 'none'."
        )
    guide = found[min(found)]
    for person, track in enumerate(tracks):
        if person in found:
            continue
        found[person] = replace(guide, person=person, reference_person=None, residual=None)
        if any(not p.is_empty for p in track):
            warnings.append(
                f"Person {person} has no counterpart in the reference and moves with person "
                f"{guide.person}."
            )
    return [found[person] for person in sorted(found)], warnings


def _common_transforms(
    tracks: Sequence[Sequence[PersonPose]],
    driving: PoseSequence,
    reference: FramePose,
    canvas: PlanarMap,
    config: AlignmentConfig,
) -> list[PersonTransform]:
    """Transforms of the methods that move everybody alike: 'none' and 'rescale'."""
    clip_map = canvas
    if config.method == "rescale":
        bodies = np.concatenate([p.body for p in tracks[0]])
        placed = bodies[bodies.any(axis=1), :2]
        centre = placed.mean(0) if len(placed) else np.zeros(2)
        clip_map = canvas.blended(fit_line(driving, reference), config.strength, centre)
    transforms: list[PersonTransform] = []
    for person, track in enumerate(tracks):
        residual = None
        partner = person if person < len(reference.people) else None
        if partner is not None:
            try:
                points = common_points(
                    track, reference.people[partner], config.confidence_threshold
                )
                residual = misfit(points, _apply(points, [clip_map])).distance
            except NoPoseError:
                partner = None  # nothing to compare, and nothing that this method needs
        transforms.append(
            PersonTransform(
                person=person,
                reference_person=partner,
                method=config.method,
                map=clip_map,
                residual=residual,
            )
        )
    return transforms


def _result_frames(
    driving: PoseSequence,
    reference: FramePose,
    tracks: Sequence[Sequence[PersonPose]],
    transforms: Sequence[PersonTransform],
    config: AlignmentConfig,
) -> list[FramePose]:
    moved: list[list[PersonPose]] = []
    for track, transform in zip(tracks, transforms, strict=True):
        maps = transform.frame_maps or [transform.map] * len(track)
        people = [_moved(p, to) for p, to in zip(track, maps, strict=True)]
        if config.retarget_limbs and transform.reference_person is not None:
            people = retarget_limbs(people, reference.people[transform.reference_person])
        moved.append(people)
    return [
        FramePose(
            people=tuple(moved[person][index] for person in range(len(frame.people))),
            width=reference.width,
            height=reference.height,
        )
        for index, frame in enumerate(driving)
    ]


def align(
    driving: PoseSequence, reference: FramePose, config: AlignmentConfig | None = None
) -> AlignmentResult:
    """Carry driving poses to a reference pose.

    People keep their index. Face and hands move with the body. Frames without a person stay empty.

    Args:
        driving: T frames on canvases of one size, which may differ from the reference's.
        reference: The pose of the reference picture.
        config: How to align.

    Returns:
        T frames on the reference's canvas, the transforms and how well they fit.

    Raises:
        ConfigError: If the clip has no frames, or its canvases differ in size.
        NoPoseError: If the reference has no person, or shares no part of a body with the clip.
    """
    config = config or AlignmentConfig()
    _check_canvases(driving)
    canvas = _canvas_map(driving[0], reference)
    tracks = [_track(driving, i) for i in range(max(len(f.people) for f in driving))]
    warnings: list[str] = []
    if all(p.is_empty for track in tracks for p in track):
        transforms = [
            PersonTransform(person=i, reference_person=None, method=config.method, map=canvas)
            for i in range(len(tracks))
        ]
        warnings.append("Nobody is seen in the driving clip, so there is nothing to align.")
    elif config.method in ("none", "rescale"):
        transforms = _common_transforms(tracks, driving, reference, canvas, config)
    else:
        transforms, warnings = _align_people(tracks, reference, canvas, config)
    return AlignmentResult(
        frames=_result_frames(driving, reference, tracks, transforms, config),
        transforms=tuple(transforms),
        method=transforms[0].method if transforms else config.method,
        warnings=tuple(warnings),
    )
