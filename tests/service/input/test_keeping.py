"""What is compiled of reading records, before there is a record."""

from typing import Any

import pytest

from docs.payloads import PAYLOADS, decoder, fetched
from service.input.walks import avro, decimals, influx, otlp, protobuf, times
from service.input.walks.keeping import keep_code

COMPILED: tuple[Any, ...] = (avro.walk, decimals.walk, influx.walk, otlp.walk, protobuf.walk, times.walk)


@pytest.mark.thorough
def test_no_record_waits_for_the_compiler_where_code_was_kept() -> None:
    keep_code()
    before = [len(function.signatures) for function in COMPILED]
    for payload in PAYLOADS:
        decoder(payload).decode(fetched(payload, 20))
    assert [len(function.signatures) for function in COMPILED] == before
    assert min(before) == 1
