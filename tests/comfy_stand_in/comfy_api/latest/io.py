"""Node schemas, as in ComfyUI v0.3.64."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Input:
    io_type: str = "*"

    def __init__(
        self,
        id: str,
        *,
        display_name: str | None = None,
        optional: bool = False,
        tooltip: str | None = None,
        lazy: bool | None = None,
        **widget: Any,
    ) -> None:
        unknown = set(widget) - set(self.widget_arguments)
        if unknown:
            raise TypeError(f"{type(self).__qualname__} got unexpected arguments {sorted(unknown)}")
        self.id = id
        self.display_name = display_name
        self.optional = optional
        self.tooltip = tooltip
        self.lazy = lazy
        for name in self.widget_arguments:
            setattr(self, name, widget.get(name))

    widget_arguments: tuple[str, ...] = ()


class WidgetInput(Input):
    widget_arguments = ("default", "socketless", "force_input")
    force_input: bool | None = None


class _ChoiceInput(WidgetInput):
    widget_arguments = ("default", "socketless")


class Output:
    io_type: str = "*"

    def __init__(
        self,
        id: str | None = None,
        *,
        display_name: str | None = None,
        tooltip: str | None = None,
        is_output_list: bool = False,
    ) -> None:
        self.id = id
        self.display_name = display_name
        self.tooltip = tooltip
        self.is_output_list = is_output_list


def _comfy_type(io_type: str, base: type[Input] = Input, *arguments: str) -> type:
    members = {"io_type": io_type, "widget_arguments": (*base.widget_arguments, *arguments)}
    return type(
        io_type,
        (),
        {
            "io_type": io_type,
            "Input": type("Input", (base,), members),
            "Output": type("Output", (Output,), {"io_type": io_type}),
        },
    )


def Custom(io_type: str) -> type:  # noqa: N802  (ComfyUI's name)
    return _comfy_type(io_type)


_NUMBER = ("min", "max", "step", "display_mode")
_CHOICE = ("options", "control_after_generate", "upload", "image_folder", "remote")
Boolean = _comfy_type("BOOLEAN", WidgetInput, "label_on", "label_off")
Int = _comfy_type("INT", WidgetInput, *_NUMBER, "control_after_generate")
Float = _comfy_type("FLOAT", WidgetInput, *_NUMBER, "round")
String = _comfy_type("STRING", WidgetInput, "multiline", "placeholder", "dynamic_prompts")
Combo = _comfy_type("COMBO", _ChoiceInput, *_CHOICE)
Image = _comfy_type("IMAGE")
Mask = _comfy_type("MASK")
Latent = _comfy_type("LATENT")
Audio = _comfy_type("AUDIO")
Video = _comfy_type("VIDEO")


class Hidden(str, Enum):
    unique_id = "UNIQUE_ID"
    prompt = "PROMPT"
    extra_pnginfo = "EXTRA_PNGINFO"
    dynprompt = "DYNPROMPT"


@dataclass
class Schema:
    node_id: str
    display_name: str | None = None
    category: str = "sd"
    inputs: list[Input] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)
    hidden: list[Hidden] = field(default_factory=list)
    description: str = ""
    is_input_list: bool = False
    is_output_node: bool = False
    is_deprecated: bool = False
    is_experimental: bool = False
    is_api_node: bool = False
    not_idempotent: bool = False
    enable_expand: bool = False

    def validate(self) -> None:
        ids = [i.id for i in self.inputs] + [o.id for o in self.outputs]
        twice = sorted({i for i in ids if ids.count(i) > 1})
        if twice:
            raise ValueError(f"ids must be unique among inputs and outputs, but {twice} are not")

    def finalize(self) -> None:
        if self.is_output_node:
            self.hidden = [*self.hidden, Hidden.prompt, Hidden.extra_pnginfo]
        for index, output in enumerate(self.outputs):
            output.id = output.id or f"_{index}_{output.io_type}_"


class NodeOutput:
    def __init__(
        self,
        *args: Any,
        ui: dict[str, Any] | None = None,
        expand: dict[str, Any] | None = None,
        block_execution: str | None = None,
    ) -> None:
        self.args = args
        self.ui = ui
        self.expand = expand
        self.block_execution = block_execution

    @property
    def result(self) -> tuple[Any, ...] | None:
        return self.args or None

    def __getitem__(self, index: int) -> Any:
        return self.args[index]


class HiddenHolder:
    def __init__(self, values: dict[Hidden, Any]) -> None:
        for name in Hidden:
            setattr(self, name.name, values.get(name))


class ComfyNode:
    hidden: HiddenHolder | None = None

    @classmethod
    def define_schema(cls) -> Schema:
        raise NotImplementedError

    @classmethod
    def execute(cls, **kwargs: Any) -> NodeOutput:
        raise NotImplementedError

    @classmethod
    def validate_inputs(cls, **kwargs: Any) -> bool | str:
        raise NotImplementedError

    @classmethod
    def fingerprint_inputs(cls, **kwargs: Any) -> Any:
        raise NotImplementedError

    @classmethod
    def GET_SCHEMA(cls) -> Schema:  # noqa: N802  (ComfyUI's name)
        schema = cls.define_schema()
        schema.finalize()
        schema.validate()
        return schema

    @classmethod
    def PREPARE_CLASS_CLONE(cls, hidden_inputs: dict[Hidden, Any]) -> type[ComfyNode]:  # noqa: N802
        return type(cls.__name__, (cls,), {"hidden": HiddenHolder(hidden_inputs)})

    @classmethod
    def EXECUTE_NORMALIZED(cls, **kwargs: Any) -> NodeOutput:  # noqa: N802  (ComfyUI's name)
        output = cls.execute(**kwargs)
        if not isinstance(output, NodeOutput):
            raise TypeError(f"{cls.__name__}.execute returned {type(output).__name__}")
        return output
