"""The runner of the peers, without them: no figure unless every reading was judged, and the arithmetic of its table."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from models.data.arrays import Doubles
from tests.bench import load
from tests.bench.peers import expected
from tests.bench.peers.contenders import BARE, PEERS, TELLTALE, Contender
from tests.bench.peers.environments import HERE, NotInstalled, Python
from tests.bench.peers.expected import Place
from tests.bench.peers.programs import job
from tests.bench.peers.results import Result, table
from tests.bench.peers.running import Account, Failed, account_of, check

STREAMS, READINGS = 20, 20_000
PEER = """
import sys
sys.path.insert(0, {programs!r})
from job import Account

account = Account({readings})
for _ in range({judged}):
    account.add()
account.close()
"""


def account_of_peer(judged: int) -> Account:
    """Of a program that was asked for READINGS and judges this many."""
    program = PEER.format(programs=str(HERE / "programs"), readings=READINGS, judged=judged)
    return account_of([sys.executable, "-c", program], timeout_s=60)


def written_by_a_peer(skipped: int | None = None) -> list[Place]:
    """The anomalies of a peer that goes through the filled topic one reading at a time, and leaves one of them out."""
    values, found = load.fill_values().tolist(), []
    streams: dict[int, job.Statistics] = {}
    for n in range(READINGS):
        if n == skipped:
            continue
        wave, stream = divmod(n, STREAMS)
        streams[stream], score = job.judge(streams.get(stream, job.NOTHING_SEEN), values[n % len(values)])
        if score > job.LIMIT:
            found.append((load.stream_name(stream), load.START_MS + wave * 1000))
    return found


def account(**changes: float) -> Account:
    told = {"judged": READINGS, "anomalies": len(written_by_a_peer()), "timed": 16_000, "seconds": 2.0, **changes}
    return Account(**told)  # type: ignore[arg-type]


def test_a_peer_that_judges_every_reading_is_timed_behind_the_first_fifth() -> None:
    told = account_of_peer(judged=READINGS)
    assert (told.judged, told.timed) == (READINGS, READINGS * 4 // 5)
    assert told.seconds > 0


def test_a_peer_that_skips_one_reading_ends_with_an_error() -> None:
    with pytest.raises(Failed, match="judged 19,999 readings, expected 20,000"):
        account_of_peer(judged=READINGS - 1)


def test_a_peer_that_judges_a_reading_twice_ends_with_an_error() -> None:
    with pytest.raises(Failed, match="judged 20,001 readings, expected 20,000"):
        account_of_peer(judged=READINGS + 1)


def test_a_program_that_says_something_else_at_its_end_gives_no_account() -> None:
    with pytest.raises(Failed, match="expected an account: judged, anomalies, timed, seconds"):
        account_of([sys.executable, "-c", "print('done')"], timeout_s=60)


@pytest.mark.slow
def test_a_program_that_does_not_end_is_ended() -> None:
    with pytest.raises(Failed, match="did not end within 0 s"):
        account_of([sys.executable, "-c", "import threading; threading.Event().wait()"], timeout_s=0.2)


def test_what_a_peer_finds_one_by_one_is_what_is_expected_of_it() -> None:
    written = written_by_a_peer()
    check(account(), READINGS, written, expected.by_statistics(expected.filled(STREAMS, READINGS)))
    assert len(written) > 10


def test_a_skipped_reading_shows_in_the_anomalies_although_the_peer_counts_it() -> None:
    wanted = expected.by_statistics(expected.filled(STREAMS, READINGS))
    skipped = written_by_a_peer().index(max(wanted.certain, key=lambda place: place[1]))
    stream, timestamp = written_by_a_peer()[skipped]
    number = next(n for n in range(STREAMS) if load.stream_name(n) == stream)
    written = written_by_a_peer(skipped=(timestamp - load.START_MS) // 1000 * STREAMS + number)
    with pytest.raises(Failed, match="1 are missing"):
        check(account(anomalies=len(written)), READINGS, written, wanted)


FLAWS: dict[str, tuple[Callable[[list[Place]], list[Place]], str]] = {
    "none": (lambda places: [], "no anomaly is in its topic"),
    "one twice": (lambda places: [*places, places[0]], "1 anomalies are in its topic more than once"),
    "one too few": (lambda places: places[1:], "anomalies are in its topic, it reports"),
    "another": (lambda places: [*places[1:], ("no-such-stream", 0)], "1 are missing, 1 are wrong"),
}


@pytest.mark.slow
@pytest.mark.parametrize("flaw", FLAWS)
def test_anomalies_that_are_not_the_right_ones_give_no_figure(flaw: str) -> None:
    change, reason = FLAWS[flaw]
    wanted = expected.by_statistics(expected.filled(STREAMS, READINGS))
    with pytest.raises(Failed, match=reason):
        check(account(), READINGS, change(written_by_a_peer()), wanted)


def test_the_lstm_is_expected_to_do_what_torch_does_with_whole_series() -> None:
    values, lstm = expected.filled(STREAMS, READINGS), expected.weights()
    wanted = expected.by_lstm(values, lstm)
    expectations = np.vstack([np.full((1, STREAMS), lstm.head.bias.item()), _forecasts(values, lstm)[:-1]])
    found = expected.by_statistics(values - expectations)
    assert wanted.certain <= found.possible
    assert found.certain <= wanted.possible
    assert wanted.certain != expected.by_statistics(values).certain


def _forecasts(values: Doubles, lstm: expected.Weights) -> Doubles:
    """(waves, streams), after each reading what it says of the next."""
    whole = nn.LSTM(1, expected.HIDDEN)
    whole.load_state_dict({f"{name}_l0": value for name, value in lstm.cell.state_dict().items()})
    with torch.inference_mode():
        hidden, _ = whole(torch.from_numpy(values).float()[:, :, None])
        forecasts: Doubles = lstm.head(hidden)[:, :, 0].double().numpy()
    return forecasts


def test_the_table_has_medians_their_share_of_the_bare_loop_and_the_fastest_first() -> None:
    bare = Result(BARE, 1_000_000, [300_000.0, 200_000.0, 250_000.0])
    ours = Result(TELLTALE, 1_000_000, [500_000.0, 400_000.0, 450_000.0])
    slow = Result(PEERS[0], 500_000, [50_000.0, 10_000.0, 60_000.0])
    lines = [line.split() for line in table([bare, slow, ours], []).splitlines()[1:]]
    assert [line[:4] for line in lines] == [
        ["telltale", "1,000,000", "450,000", "1.80"],
        ["bare", "1,000,000", "250,000", "1.00"],
        [PEERS[0].name, "500,000", "50,000", "0.20"],
    ]


def test_a_contender_without_a_figure_stands_in_the_table_with_the_reason() -> None:
    failed = Result(PEERS[0], 500_000, [50_000.0], failure="judged 1 readings, expected 2")
    lines = table([Result(BARE, 1, [1.0]), failed], [("flink", "mvn not found")]).splitlines()
    assert failed.median is None
    assert lines[-2:] == [
        f"{PEERS[0].name:<20}failed: judged 1 readings, expected 2",
        f"{'flink':<20}left out: mvn not found",
    ]


@pytest.mark.parametrize(
    ("rate", "streams", "readings"),
    [
        (60_000, 1_000, 1_000_000),  # of the 1,200,000 in 20 s
        (20_000, 1_000, 200_000),
        (10_000, 100_000, 1_000_000),  # every stream has readings enough to be judged
    ],
)
def test_a_contender_is_given_whole_waves_that_take_about_the_time_asked_for(
    rate: int, streams: int, readings: int
) -> None:
    assert Contender("", "", rate).readings(streams, 20.0, 2_000_000) == readings


def test_a_tool_that_makes_environments_and_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV", str(tmp_path / "uv"))
    with pytest.raises(NotInstalled, match="uv not found"):
        Python("no-such-peer", "with_quix.py", ("no-such-package==1",)).install()
