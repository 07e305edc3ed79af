"""Judged readings to a receiver of remote write: nothing is lost, and one bad sample costs no other."""

import threading

from prometheus_client import CollectorRegistry

from service.notify.delivery import Letter, Receiver, RefusedMessage
from service.notify.remote_write import HEADERS
from service.notify.score_feed import ScoreFeed
from service.notify.score_metrics import ScoreFeedMetrics
from tests.service.notify.scored import samples_of, score_record
from tests.service.notify.test_alert_book import Clock
from tests.service.notify.topic import Topic, TopicInMemory
from tests.service.receiver import Listening, listening

RETRY_S = (1.0, 4.0)


class Scene:
    """Readings of one stream, a second apart, on their way to a receiver."""

    def __init__(self, readings: int, to: Listening, most: int = 100) -> None:
        self.topic = Topic({0: [score_record("pump", 1_000 * n) for n in range(readings)]})
        self.clock = Clock()
        self.clock.now_s = 0.0
        self._to, self._most = to, most
        self.feed = self.restarted()

    def restarted(self) -> ScoreFeed:
        receiver = Receiver("remote write", f"{self._to.url}/write", "Bearer a-secret", HEADERS)
        reader = TopicInMemory(self.topic, self._most)
        self.feed = ScoreFeed(reader, receiver.post, threading.Event(), RETRY_S, self.clock)
        return self.feed

    def times(self) -> list[int]:
        """Of the samples that were taken, in the order of requests."""
        return [
            time_ms // 1_000
            for body in self._to.taken
            for time_ms in samples_of(body)["telltale_reading_score", "pump", ""]
        ]


def test_what_was_taken_is_committed_and_a_request_says_what_it_is() -> None:
    with listening() as receiver:
        scene = Scene(250, receiver)
        for committed in (100, 200, 250, 250):
            scene.feed.turn(0)
            assert scene.topic.done() == committed
        assert scene.times() == list(range(250))
        assert scene.feed.status.counts["readings"] == 250
        headers = receiver.posted[0].headers
        assert headers["Content-Encoding"] == "snappy"
        assert headers["Content-Type"] == "application/x-protobuf"
        assert headers["X-Prometheus-Remote-Write-Version"] == "0.1.0"
        assert headers["Authorization"] == "Bearer a-secret"


def test_a_receiver_that_is_away_is_asked_again_later_and_later_and_nothing_more_is_read_meanwhile() -> None:
    with listening(503, 429, 500, 503) as receiver:
        scene = Scene(150, receiver)
        asked = []
        for second in range(16):
            scene.clock.now_s = float(second)
            scene.feed.turn(0)
            asked.append(len(receiver.posted))
        assert [n for n in range(16) if asked[n] > (asked[n - 1] if n else 0)] == [0, 1, 3, 7, 11, 12]
        assert {one.body for one in receiver.posted[:5]} == {receiver.posted[0].body}
        assert scene.feed.status.counts["failures"] == 4
        assert (scene.times(), scene.topic.done()) == (list(range(150)), 150)


def test_what_a_killed_process_had_not_committed_is_sent_again_by_the_next() -> None:
    with listening(200, 503) as receiver:
        scene = Scene(300, receiver)
        scene.feed.turn(0)
        scene.feed.turn(0)
        assert scene.feed.status.waiting == 100
        scene.topic.migrates = True
        scene.clock.now_s += 10.0
        scene.feed.turn(0)
        assert scene.topic.done() == 100
        assert scene.feed.status.counts["migrations"] == 1
        scene.topic.migrates = False
        scene.restarted()
        for _ in range(3):
            scene.feed.turn(0)
        assert sorted(scene.times()) == sorted([*range(300), *range(100, 200)])


def test_of_a_request_that_is_refused_only_the_readings_that_are_to_blame_are_given_up() -> None:
    blamed, taken, requests = {0, 1, 63, 99}, list[int](), list[int]()

    def post(letter: Letter) -> None:
        times = {time_ms // 1_000 for time_ms in samples_of(letter.body)["telltale_reading_score", "pump", ""]}
        requests.append(len(times))
        if times & blamed:
            raise RefusedMessage("out of order sample")
        taken.extend(sorted(times))

    topic = Topic({0: [score_record("pump", 1_000 * n) for n in range(100)]})
    feed = ScoreFeed(TopicInMemory(topic, 100), post, threading.Event())
    feed.turn(0)
    assert taken == [n for n in range(100) if n not in blamed]
    assert (feed.status.counts["readings"], feed.status.counts["refused"]) == (96, 4)
    assert len(requests) < 2 * len(blamed) * 8
    assert topic.done() == 100


def test_a_record_that_is_no_judged_reading_is_passed_over_and_counted() -> None:
    with listening() as receiver:
        scene = Scene(3, receiver)
        scene.topic.values()[1] = b"neither"
        registry = CollectorRegistry()
        ScoreFeedMetrics(registry, scene.feed.status)
        scene.feed.turn(0)
        assert (scene.times(), scene.topic.done()) == ([0, 2], 3)
        assert registry.get_sample_value("telltale_remote_write_rejected_total") == 1
        assert registry.get_sample_value("telltale_remote_write_readings_total") == 2
        assert registry.get_sample_value("telltale_remote_write_lag_records") == 0
        assert registry.get_sample_value("telltale_remote_write_stage", {"state": "running"}) == 1
