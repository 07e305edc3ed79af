"""Who takes part in `make bench-peers`, and what each is given to do.

Every peer is the program that someone who likes the tool would write and tune for throughput on one core; its settings
and their reasons stand in the program.
"""

from dataclasses import dataclass, field
from enum import Enum

from tests.bench.peers.environments import Environment, Java, OwnPython, Python

# One core: the collector without threads. Memory from the start, so that no time goes into growing.
ONE_CORE_JVM = ("-XX:+UseSerialGC", "-Xms1g", "-Xmx2g")
# Flink's serializers reach into java.util (docs of Flink: "Java compatibility").
OPEN = ("--add-opens=java.base/java.util=ALL-UNNAMED", "--add-opens=java.base/java.lang=ALL-UNNAMED")


class Rule(Enum):
    """What makes an anomaly."""

    STATISTICS = "mean and variance"
    LSTM = "LSTM of 64 units"
    OWN = "its own"


@dataclass(frozen=True)
class Contender:
    """rate: readings a second, roughly: it only says how many fill the time asked for.

    least, waves: it is given no fewer readings, and no fewer of each stream.
    """

    name: str
    what: str
    rate: int
    least: int = field(default=0, kw_only=True)
    waves: int = field(default=10, kw_only=True)  # for all streams to be known and judged

    def readings(self, streams: int, seconds: float, most: int) -> int:
        """How many it is given: a round number of waves, so that contenders of like speed share a topic."""
        waves = int(max(self.least, min(most, seconds * self.rate))) // streams
        if waves <= self.waves:
            return self.waves * streams
        digits: int = 10 ** (len(str(waves)) - 1)
        return max(step for step in (1, 2, 5) if step * digits <= waves) * digits * streams


@dataclass(frozen=True)
class Peer(Contender):
    """max_streams: more do not fit in memory."""

    rule: Rule
    environment: Environment
    max_streams: int | None = None


# A worker is timed from when it knows all streams, and by then it may have polled 20,000 readings of every partition.
ENOUGH = 500_000
BARE = Contender("bare", "KafkaConsumer.poll() and nothing else", 250_000, least=ENOUGH)
TELLTALE = Contender(
    "telltale",
    "exactly once, LSTM of 64 units and its detector, state in memory and changelog",
    250_000,
    least=ENOUGH,
)
PEERS = (
    Peer(
        "kafka-streams",
        "exactly once, mean and variance, RocksDB and changelog",
        60_000,
        Rule.STATISTICS,
        Java("kafka-streams", "peers.WithKafkaStreams", (*ONE_CORE_JVM, "-Dpeer=statistics")),
    ),
    Peer(
        "kafka-streams-lstm",
        "exactly once, LSTM of 64 units, RocksDB and changelog",
        50_000,
        Rule.LSTM,
        Java("kafka-streams", "peers.WithKafkaStreams", (*ONE_CORE_JVM, "-Dpeer=lstm")),
    ),
    Peer(
        "flink",
        "exactly once, mean and variance, RocksDB and checkpoints",
        60_000,
        Rule.STATISTICS,
        Java("flink", "peers.WithFlink", (*ONE_CORE_JVM, *OPEN)),
    ),
    Peer(
        "quix",
        "exactly once, mean and variance, RocksDB and changelog",
        50_000,
        Rule.STATISTICS,
        Python("quix", "with_quix.py", ("quixstreams==3.28.1", "orjson==3.13.0")),
    ),
    Peer(
        "bytewax",
        "at least once, mean and variance, recovery to disk",
        50_000,
        Rule.STATISTICS,
        Python("bytewax", "with_bytewax.py", ("bytewax[kafka]==0.21.1", "confluent-kafka==2.16.1", "orjson==3.13.0")),
    ),
    Peer(
        "river",
        "at least once, half-space trees, state in memory alone",
        10_000,
        Rule.OWN,
        Python(
            "river", "with_river.py", ("river==0.26.1", "kafka-python[crc32c]==3.0.12", "lz4==4.4.5", "orjson==3.13.0")
        ),
        waves=200,  # the trees judge from the second window of 50 on
        max_streams=5_000,  # 0.3 MB each
    ),
    Peer(
        "tutorial",
        "at least once, LSTM of 64 units, state in memory alone",
        20_000,
        Rule.LSTM,
        OwnPython("tutorial.py"),
    ),
)
