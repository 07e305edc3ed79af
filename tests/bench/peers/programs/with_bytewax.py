"""Bytewax: one worker, recovery to disk. Its sink for Kafka is at least once; its state is in memory between epochs.

Settings: batches of up to 2,000 records a partition, twice the default, and `stateful_batch`, which is called once for
all readings that a stream has in a batch. Batches of 10,000 would be read and decoded before the time that counts
begins and judged within it, which flatters. An epoch of 10 seconds, the default: each writes a snapshot of every stream
that had a reading, so shorter ones write more. The sink flushes after every batch, so its producer does not linger.
"""

from datetime import timedelta

import bytewax.operators as op
import orjson
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.operators import StatefulBatchLogic
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main
from job import LIMIT, NOTHING_SEEN, Account, anomaly, judge, read_job


def main() -> None:
    job = read_job()
    account = Account(job.readings)

    class Judging(StatefulBatchLogic):
        """One stream."""

        def __init__(self, seen):
            self.seen = seen or NOTHING_SEEN

        def on_batch(self, readings):
            found = []
            for reading in readings:
                self.seen, score = judge(self.seen, reading["value"])
                if score > LIMIT:
                    account.anomalies += 1
                    found.append((reading, score))
            account.add(len(readings))
            return found, StatefulBatchLogic.RETAIN

        def snapshot(self):
            return tuple(self.seen)  # pickled, it does without the name of a class

    def keyed(messages):
        return [(message.key.decode(), orjson.loads(message.value)) for message in messages]

    def written(found):
        stream, (reading, score) = found
        value = orjson.dumps(anomaly(stream, reading["timestamp"], reading["value"], score))
        return KafkaSinkMessage(stream.encode(), value)

    flow = Dataflow("peer")
    source = KafkaSource(
        [job.servers],
        [job.topic],
        tail=False,
        batch_size=2_000,
        add_config={"fetch.max.bytes": 2**25, "max.partition.fetch.bytes": 2**23, "queued.min.messages": 200_000},
    )
    readings = op.flat_map_batch("decode", op.input("in", flow, source), keyed)
    anomalies = op.stateful_batch("judge", readings, Judging)
    sink = KafkaSink([job.servers], job.anomalies, add_config={"compression.type": "lz4", "linger.ms": "0"})
    op.output("out", op.map("write", anomalies, written), sink)
    init_db_dir(job.folder, 1)
    cli_main(flow, epoch_interval=timedelta(seconds=10), recovery_config=RecoveryConfig(str(job.folder)))
    account.close()


if __name__ == "__main__":
    main()
