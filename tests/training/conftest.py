"""What several tests of trainings share."""

import json

import pytest
from animation_factory import drawn_settings, write_networks

from animator_core.training.animation_run import encode_training_clips


@pytest.fixture(scope="session")
def settings(tmp_path_factory):
    """Networks and encoded clips that all tests share; change the output."""
    folder = tmp_path_factory.mktemp("animation")
    tables = drawn_settings(folder, write_networks(folder / "models"))
    encode_training_clips(json.loads(json.dumps(tables)), "test")
    return tables
