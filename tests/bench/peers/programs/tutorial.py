"""What a tutorial shows: one record at a time through kafka-python, json and a torch LSTMCell, state in a dictionary.

Offsets are committed by the client in the background. Settings: `inference_mode`, one thread (more are slower at this
size), large fetches; otherwise it is what one finds. It runs in Telltale's own environment, which has all it needs.
"""

import json

import torch
from job import IDLE_S, LIMIT, NOTHING_SEEN, Account, anomaly, judge, read_job
from kafka import KafkaConsumer, KafkaProducer

HIDDEN = 64


def main() -> None:
    job = read_job()
    account = Account(job.readings)
    torch.set_num_threads(1)
    cell, head = read_weights(job.weights)
    consumer = KafkaConsumer(
        job.topic,
        bootstrap_servers=job.servers,
        group_id=job.group,
        auto_offset_reset="earliest",
        value_deserializer=json.loads,
        consumer_timeout_ms=int(IDLE_S * 1000),
        fetch_max_bytes=2**24,
    )
    producer = KafkaProducer(
        bootstrap_servers=job.servers, value_serializer=lambda found: json.dumps(found).encode(), linger_ms=20
    )
    streams = {}
    at_first = (torch.zeros(1, HIDDEN), torch.zeros(1, HIDDEN)), NOTHING_SEEN
    with torch.inference_mode():
        for message in consumer:
            reading = message.value
            state, seen = streams.get(message.key, at_first)
            expected = head(state[0]).item()
            seen, score = judge(seen, reading["value"] - expected)
            state = cell(torch.tensor([[reading["value"]]]), state)
            streams[message.key] = state, seen
            if score > LIMIT:
                account.anomalies += 1
                found = anomaly(message.key.decode(), reading["timestamp"], reading["value"], score)
                producer.send(job.anomalies, found, message.key)
            if account.add():
                break
    producer.close()
    consumer.close()
    account.close()


def read_weights(path):
    """The cell and the head; their numbers lie in the file one behind the other, as float32."""
    cell, head = torch.nn.LSTMCell(1, HIDDEN), torch.nn.Linear(HIDDEN, 1)
    numbers = torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.float32)
    torch.nn.utils.vector_to_parameters(numbers, [*cell.parameters(), *head.parameters()])
    return cell, head


if __name__ == "__main__":
    main()
