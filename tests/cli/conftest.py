"""What every command of the command line is tried on."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_inputs import write_inputs
from factory import write_published_layout


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A models folder in the published layout, with tiny random networks."""
    folder = tmp_path_factory.mktemp("models")
    write_published_layout(folder)
    return folder


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    """A picture, and motions in every form that `animate` reads."""
    return write_inputs(tmp_path_factory.mktemp("inputs"))
