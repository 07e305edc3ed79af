"""river: a pipeline of scaler and half-space trees a stream, in a plain consumer loop; offsets committed after a poll.

State is in memory alone. Settings: ten trees, as by default, but of height 6 and with windows of 50 readings, since the
default of 8 and 250 takes 1.2 MB a stream in place of 0.3 and is half as fast; values scaled to between 0 and 1, as
the documentation of the trees asks; polls of up to 20,000 records, fetches of up to 16 MB, anomalies sent in batches,
the garbage collector kept from walking all trees every few hundred readings.
"""

import gc
import time

import orjson
from job import IDLE_S, Account, anomaly, read_job
from kafka import KafkaConsumer, KafkaProducer
from river.anomaly import HalfSpaceTrees
from river.preprocessing import MinMaxScaler

LIMIT = 0.985  # of a score that goes from 0 to 1


def main() -> None:
    job = read_job()
    account = Account(job.readings)
    consumer = KafkaConsumer(
        job.topic,
        bootstrap_servers=job.servers,
        group_id=job.group,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        fetch_max_bytes=2**24,
    )
    producer = KafkaProducer(bootstrap_servers=job.servers, linger_ms=20)
    models = {}
    gc.set_threshold(100_000, 50, 100)
    heard = time.monotonic()
    while account.judged < job.readings and time.monotonic() - heard < IDLE_S:
        for records in consumer.poll(1000, max_records=20_000).values():
            heard = time.monotonic()
            for record in records:
                reading = orjson.loads(record.value)
                model = models.get(record.key)
                if model is None:
                    model = models[record.key] = MinMaxScaler() | HalfSpaceTrees(height=6, window_size=50, seed=1)
                features = {"value": reading["value"]}
                score = model.score_one(features)
                model.learn_one(features)
                if score > LIMIT:
                    account.anomalies += 1
                    found = anomaly(record.key.decode(), reading["timestamp"], reading["value"], score)
                    producer.send(job.anomalies, orjson.dumps(found), record.key)
            account.add(len(records))
        producer.flush()
        consumer.commit()
    producer.close()
    consumer.close()
    account.close()


if __name__ == "__main__":
    main()
