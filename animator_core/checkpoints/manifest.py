"""The published weights: names, folders, licences, and hashes where they are known.

Tables only. A hash that stands here was found in at least two independent public records of the
same file; where none was found there is None, and `download` takes the hash from the hub's own
record of the pinned revision.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "ADAPTER_REPOSITORY",
    "COMPONENTS",
    "GROUPS",
    "NETWORK_FORMATS",
    "ONNX_FILES",
    "STABLE_VIDEO_REPOSITORY",
    "STABLE_VIDEO_REVISION",
    "Component",
    "Group",
    "PublishedFile",
]

ADAPTER_REPOSITORY = "FrancisRing/StableAnimator"
"""Hugging Face repository with all published weights, Stable Video Diffusion's included."""

STABLE_VIDEO_REPOSITORY = "stabilityai/stable-video-diffusion-img2vid-xt"
"""Original source of the video model; asks for a log-in."""

STABLE_VIDEO_REVISION = "9e43909513c6714f1bc78bcb44d96e733cd242aa"
"""Commit of STABLE_VIDEO_REPOSITORY that the hashes below belong to."""

_REMOTE_STABLE_VIDEO = "stable-video-diffusion-img2vid-xt"
_STABLE_VIDEO_PLACES = tuple(
    f"{root}{folder}"
    for root in ("", "checkpoints/")
    for folder in ("SVD", _REMOTE_STABLE_VIDEO, f"SVD/{_REMOTE_STABLE_VIDEO}")
)
_ROOTS = (".", "checkpoints")

NETWORK_FORMATS = (".safetensors", ".pth", ".pt", ".bin")
"""Suffixes of weight files, best first."""


@dataclass(frozen=True, kw_only=True)
class Component:
    """One network's weight file.

    Attributes:
        name: Field of `AnimatorModels`.
        title: For messages.
        subfolder: Folder of the file, below one of `places`.
        file_names: Names under which it is published or converted.
        places: Folders below the models folder, in the order in which they are searched.
        config_subfolder: Folder of its config.json, below one of `config_places`; None for none.
        config_places: Where that folder is searched.
        in_stable_video: Whether it is a part of Stable Video Diffusion.
        repository: Where it can be had.
    """

    name: str
    title: str
    subfolder: str
    file_names: tuple[str, ...]
    places: tuple[str, ...]
    config_subfolder: str | None = None
    config_places: tuple[str, ...] = _STABLE_VIDEO_PLACES
    in_stable_video: bool = False
    repository: str = ADAPTER_REPOSITORY


def _adapter_names(stem: str) -> tuple[str, ...]:
    return (f"{stem}.safetensors", f"{stem}.pth")


def _stable_video_names(stem: str) -> tuple[str, ...]:
    return tuple(f"{stem}{v}{s}" for s in (".safetensors", ".bin") for v in ("", ".fp16"))


COMPONENTS: tuple[Component, ...] = (
    Component(
        name="unet",
        title="video UNet with ID adapter",
        subfolder="Animation",
        file_names=_adapter_names("unet"),
        places=_ROOTS,
        config_subfolder="unet",
    ),
    Component(
        name="pose_net",
        title="PoseNet",
        subfolder="Animation",
        file_names=_adapter_names("pose_net"),
        places=_ROOTS,
    ),
    Component(
        name="face_encoder",
        title="face encoder",
        subfolder="Animation",
        file_names=_adapter_names("face_encoder"),
        places=_ROOTS,
    ),
    Component(
        name="vae",
        title="VAE",
        subfolder="vae",
        file_names=_stable_video_names("diffusion_pytorch_model"),
        places=_STABLE_VIDEO_PLACES,
        config_subfolder="vae",
        in_stable_video=True,
    ),
    Component(
        name="image_encoder",
        title="CLIP image encoder",
        subfolder="image_encoder",
        file_names=(*_stable_video_names("model"), "pytorch_model.bin", "pytorch_model.fp16.bin"),
        places=_STABLE_VIDEO_PLACES,
        config_subfolder="image_encoder",
        in_stable_video=True,
    ),
)
"""What `load_models` needs. The UNet's weights are complete; only its config.json is SVD's."""


@dataclass(frozen=True, kw_only=True)
class PublishedFile:
    """A file on the hub.

    Attributes:
        remote: Path in ADAPTER_REPOSITORY.
        local: Path below the models folder.
        size: Size [bytes], where it is known.
        sha256: Hash, where it is known.
    """

    remote: str
    local: str
    size: int | None = None
    sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class Group:
    """Files that are downloaded together and share a licence.

    Attributes:
        name: What the user types.
        title: For messages.
        licence: One line on the licence.
        licence_url: Its text.
        files: The files.
    """

    name: str
    title: str
    licence: str
    licence_url: str
    files: tuple[PublishedFile, ...]


def _stable_video(path: str, size: int | None = None, sha256: str | None = None) -> PublishedFile:
    remote = f"{_REMOTE_STABLE_VIDEO}/{path}"
    return PublishedFile(remote=remote, local=f"SVD/{path}", size=size, sha256=sha256)


def _antelope(name: str, sha256: str, size: int) -> PublishedFile:
    local = f"antelopev2/{name}"
    return PublishedFile(remote=f"models/{local}", local=local, sha256=sha256, size=size)


GROUPS: tuple[Group, ...] = (
    Group(
        name="adapter",
        title="StableAnimator's UNet with ID adapter, PoseNet and face encoder",
        licence="Apache-2.0 (its UNet was trained from Stable Video Diffusion, see there)",
        licence_url=f"https://huggingface.co/{ADAPTER_REPOSITORY}",
        files=tuple(
            PublishedFile(remote=f"Animation/{name}.pth", local=f"Animation/{name}.pth")
            for name in ("unet", "pose_net", "face_encoder")
        ),
    ),
    Group(
        name="stable-video",
        title="Stable Video Diffusion XT: VAE, CLIP image encoder, settings",
        licence="Stability AI's licence; read it before any commercial use",
        licence_url=f"https://huggingface.co/{STABLE_VIDEO_REPOSITORY}/blob/main/LICENSE.md",
        files=(
            _stable_video("unet/config.json"),
            _stable_video("vae/config.json"),
            _stable_video("image_encoder/config.json"),
            _stable_video("feature_extractor/preprocessor_config.json"),
            _stable_video("scheduler/scheduler_config.json"),
            _stable_video(
                "vae/diffusion_pytorch_model.fp16.safetensors",
                195531910,
                "af602cd0eb4ad6086ec94fbf1438dfb1be5ec9ac03fd0215640854e90d6463a3",
            ),
            _stable_video(
                "image_encoder/model.fp16.safetensors",
                1264217240,
                "ae616c24393dd1854372b0639e5541666f7521cbe219669255e865cb7f89466a",
            ),
        ),
    ),
    Group(
        name="dwpose",
        title="DWPose: person detector and whole-body pose",
        licence="Apache-2.0 (DWPose, YOLOX)",
        licence_url="https://github.com/IDEA-Research/DWPose",
        files=(
            PublishedFile(
                remote="DWPose/yolox_l.onnx",
                local="DWPose/yolox_l.onnx",
                size=216746733,
                sha256="7860ae79de6c89a3c1eb72ae9a2756c0ccfbe04b7791bb5880afabd97855a411",
            ),
            PublishedFile(
                remote="DWPose/dw-ll_ucoco_384.onnx",
                local="DWPose/dw-ll_ucoco_384.onnx",
                size=134399116,
                sha256="724f4ff2439ed61afb86fb8a1951ec39c6220682803b4a8bd4f598cd913b1843",
            ),
        ),
    ),
    Group(
        name="antelopev2",
        title="InsightFace antelopev2: face detection and recognition",
        licence="non-commercial research only (InsightFace's pretrained models)",
        licence_url="https://github.com/deepinsight/insightface#license",
        files=(
            _antelope(
                "scrfd_10g_bnkps.onnx",
                "5838f7fe053675b1c7a08b633df49e7af5495cee0493c7dcf6697200b85b5b91",
                16923827,
            ),
            _antelope(
                "glintr100.onnx",
                "4ab1d6435d639628a6f3e5008dd4f929edf4c4124b1a7169e1048f9fef534cdf",
                260665334,
            ),
        ),
    ),
)
"""Everything that `download` can fetch, in the order in which it is fetched."""

ONNX_FILES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("dwpose", "yolox_l.onnx", ("DWPose", "checkpoints/DWPose")),
    ("dwpose", "dw-ll_ucoco_384.onnx", ("DWPose", "checkpoints/DWPose")),
    *(
        (
            "antelopev2",
            name,
            (
                "antelopev2",
                "antelopev2/antelopev2",
                "models/antelopev2",
                "models/antelopev2/antelopev2",
            ),
        )
        for name in ("scrfd_10g_bnkps.onnx", "glintr100.onnx")
    ),
)
"""(group, file name, folders searched) of the ONNX networks."""
