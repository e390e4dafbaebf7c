"""What the tests of workflows share."""

from __future__ import annotations

from typing import Any

import pytest
from workflow_format import NodeSpec, core_specs, own_specs


@pytest.fixture(scope="session")
def specs() -> dict[str, NodeSpec]:
    """Every node that a workflow may use."""
    return {**core_specs(), **own_specs()}


@pytest.fixture(scope="session")
def project() -> dict[str, Any]:
    """The pack's project metadata."""
    from packaging_metadata import read_pyproject

    return read_pyproject()["project"]
