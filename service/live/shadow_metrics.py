"""Metrics of a second checkpoint that is compared with those that judge."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric

from service.live.status import ShadowStatus


def shadow_families(shadow: ShadowStatus | None) -> Iterator[Metric]:
    """Nothing where there is none."""
    if shadow is None:
        return
    yield InfoMetricFamily(
        "telltale_shadow", "The trained model that is compared.", {"digest": shadow.checkpoint.digest}
    )
    compared = CounterMetricFamily(
        "telltale_shadow_readings", "Readings that were compared.", labels=["topic", "partition"]
    )
    alarms = CounterMetricFamily(
        "telltale_shadow_alarm_readings",
        "Of these, readings at which an alarm was open: of the shadow alone, of the model that judges, of both.",
        labels=["topic", "partition", "of"],
    )
    opened = CounterMetricFamily(
        "telltale_shadow_alarms_opened",
        "Alarms that the shadow opened, and the model that judges, while they were compared.",
        labels=["topic", "partition", "of"],
    )
    alone = CounterMetricFamily(
        "telltale_shadow_alarms_alone",
        "Of these, alarms that closed while the other had none open all along.",
        labels=["topic", "partition", "of"],
    )
    for one in shadow.partitions:
        where = [one.topic, str(one.number)]
        compared.add_metric(where, one.readings)
        for of, count in (("shadow", one.only_shadow), ("current", one.only_current), ("both", one.both)):
            alarms.add_metric([*where, of], count)
        for of, count in (("shadow", one.opened), ("current", one.opened_current)):
            opened.add_metric([*where, of], count)
        for of, count in (("shadow", one.alone), ("current", one.alone_current)):
            alone.add_metric([*where, of], count)
    yield compared
    yield alarms
    yield opened
    yield alone
