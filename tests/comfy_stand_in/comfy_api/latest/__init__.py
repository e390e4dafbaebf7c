"""What `from comfy_api.latest import ...` gives."""

from __future__ import annotations

from abc import ABC, abstractmethod

from . import io, ui

__all__ = ["ComfyExtension", "io", "ui"]


class ComfyExtension(ABC):
    @abstractmethod
    async def get_node_list(self) -> list[type[io.ComfyNode]]: ...
