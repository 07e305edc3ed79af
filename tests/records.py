"""What tests look at in records that were written."""

from service.log.port import Record


def headers_of(record: Record) -> dict[str, bytes]:
    """By name; of several with one name the last, as readers do it. Raises ValueError at one that is null."""
    for name, value in record.headers:
        if value is None:
            raise ValueError(f"header {name} is null")
    return {name: value for name, value in record.headers if value is not None}
