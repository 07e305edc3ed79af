"""A plant that was judged half-way, and what some of its streams remember."""

import pytest

from models.detection.detector import Detector
from service.inspect.state_file import StateExport
from service.inspect.transfer import export_streams
from service.log.memory_log import Topics
from service.pipeline import Pipeline
from service.state.changelog import Layout
from tests.service.onlooker import (
    DIGEST,
    MAX_FUTURE_MS,
    MIDDLE,
    NUMERICS,
    P0,
    PARTITIONS,
    WANTED,
    Onlooker,
    Service,
    plant,
    search,
)


@pytest.fixture(scope="module")
def layout(detector: Detector) -> Layout:
    return Layout.of(DIGEST, detector.rows_for([]))


@pytest.fixture(scope="module")
def pipeline(detector: Detector) -> Pipeline:
    return Pipeline(detector, DIGEST, MAX_FUTURE_MS)


@pytest.fixture(scope="module")
def judged(detector: Detector) -> Topics:
    """All readings of one partition are judged, and every version of every page is still there."""
    topics = plant(5_000)
    Service(topics, P0, detector, flush_interval_s=2.0).run()
    return topics


@pytest.fixture
def topics(detector: Detector) -> Topics:
    """Judged half-way; the pages are up to ten batches old."""
    topics = plant()
    for partition in PARTITIONS:
        Service(topics, partition, detector).run(MIDDLE)
    return topics


@pytest.fixture
def exported(topics: Topics, pipeline: Pipeline, layout: Layout) -> StateExport:
    return export_streams(Onlooker(topics), search(), WANTED, pipeline, layout, NUMERICS)
