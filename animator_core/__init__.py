"""Animate a person from one picture and a driving motion, and keep the face.

The package runs without ComfyUI; `python -m animator_core --help` lists what it can do.
Importing it imports nothing heavy: each stage loads its libraries when it is first used.
"""

from __future__ import annotations

__version__ = "0.1.0"
