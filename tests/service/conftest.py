"""What many tests of the service judge with."""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from models.detection.detector import Detector


@pytest.fixture(scope="module")
def detector() -> "Detector":
    from models.detection.detector import Detector  # noqa: PLC0415  (what judges nothing need not wait for torch)
    from tests.data import QUICK, some_forecaster  # noqa: PLC0415

    return Detector.cold(some_forecaster(2), QUICK)
