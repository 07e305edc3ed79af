"""Quix Streams: exactly once, state in RocksDB and in a changelog topic.

Settings: a commit a second instead of every five, as Kafka Streams has it here: what a commit costs is shared by tens
of thousands of readings, and results wait no longer. State as packed bytes, which saves JSON in the store and in the
changelog; lz4, large batches and lingering for the changelog; fetches of up to 8 MB a partition and a full queue in the
client. The library's own JSON is orjson.
"""

import struct

from job import IDLE_S, LIMIT, NOTHING_SEEN, Account, Statistics, anomaly, judge, read_job
from quixstreams import Application

PACKED = struct.Struct("<qdd")


def main() -> None:
    job = read_job()
    account = Account(job.readings)
    app = Application(
        broker_address=job.servers,
        consumer_group=job.group,
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once",
        commit_interval=1.0,
        state_dir=job.folder,
        loglevel="ERROR",
        consumer_extra_config={
            "fetch.max.bytes": 2**25,
            "max.partition.fetch.bytes": 2**23,
            "queued.min.messages": 200_000,
        },
        producer_extra_config={
            "compression.type": "lz4",
            "linger.ms": 50,
            "batch.size": 2**20,
            "queue.buffering.max.messages": 2_000_000,
        },
    )

    def judged(reading, key, _timestamp, _headers, state):
        packed = state.get_bytes("statistics")
        seen = Statistics._make(PACKED.unpack(packed)) if packed else NOTHING_SEEN
        seen, score = judge(seen, reading["value"])
        state.set_bytes("statistics", PACKED.pack(*seen))
        if account.add():
            app.stop()  # after this record, with a last commit
        if score <= LIMIT:
            return None
        account.anomalies += 1
        return anomaly(key.decode(), reading["timestamp"], reading["value"], score)

    readings = app.dataframe(app.topic(job.topic, key_deserializer="bytes", value_deserializer="json"))
    anomalies = readings.apply(judged, stateful=True, metadata=True).filter(lambda found: found is not None)
    anomalies.to_topic(app.topic(job.anomalies, key_serializer="bytes", value_serializer="json"))
    app.run(timeout=IDLE_S, collect=False)
    account.close()


if __name__ == "__main__":
    main()
