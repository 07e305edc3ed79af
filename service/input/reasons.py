"""Why a record, or a reading in it, cannot be read."""

from enum import StrEnum


class Reason(StrEnum):
    """Why a record cannot be read."""

    MISSING_KEY = "missing_key"
    BAD_KEY = "bad_key"
    MISSING_VALUE = "missing_value"
    TOO_LARGE = "too_large"
    BAD_JSON = "bad_json"
    BAD_MSGPACK = "bad_msgpack"
    BAD_ARROW = "bad_arrow"
    BAD_AVRO = "bad_avro"
    BAD_INFLUX = "bad_influx"
    BAD_OTLP = "bad_otlp"
    BAD_PROTOBUF = "bad_protobuf"
    BAD_SPARKPLUG = "bad_sparkplug"
    UNKNOWN_ALIAS = "unknown_alias"
    TOO_MANY_READINGS = "too_many_readings"
    BAD_TIMESTAMP = "bad_timestamp"
    FUTURE_TIMESTAMP = "future_timestamp"
    PAST_TIMESTAMP = "past_timestamp"
    WRONG_FEATURES = "wrong_features"
    NOT_A_NUMBER = "not_a_number"
    OUT_OF_RANGE = "out_of_range"
    STREAM_LIMIT = "stream_limit"
    UNREADABLE_BATCH = "unreadable_batch"
