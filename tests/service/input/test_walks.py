"""What is compiled of reading records, before there is a record."""

from typing import Any

from docs.payloads import PAYLOADS, decoder, fetched
from service.input import avro_walk, influx_walk, otlp_walk
from service.input.walks import keep_code

COMPILED: tuple[Any, ...] = (avro_walk.walk, influx_walk.walk, otlp_walk.walk)


def test_no_record_waits_for_the_compiler_where_code_was_kept() -> None:
    keep_code()
    before = [len(function.signatures) for function in COMPILED]
    for payload in PAYLOADS:
        decoder(payload).decode(fetched(payload, 20))
    assert [len(function.signatures) for function in COMPILED] == before
    assert min(before) == 1
