"""Mappings of topics as settings: what a person writes, what is shown of it, and what is said of a mistake in it."""

from pathlib import Path

import pytest

from service.errors import RefusedSetting
from service.process.records import record_rules
from service.settings.loading import load
from service.settings.settings import secrets, shown

MAPPED = """
input:
  topics:
    plant.line-3:
      preset: telegraf
      stream: [tags.host, name]
      missing: -9999
    yard:
      values: {temp: Temp.Value}
      decimal: ","
"""


def test_a_topics_mapping_is_read_shown_and_read_again(file: Path) -> None:
    file.write_text(MAPPED)
    first = load(file, {})
    plant, yard = first.input.topics["plant.line-3"], first.input.topics["yard"]
    assert (plant.readings, plant.time_unit, plant.values) == ("metrics", "s", "fields"), "as the preset says"
    assert (plant.stream, plant.missing) == (("tags.host", "name"), (-9999.0,))
    assert (yard.time, yard.values, yard.decimal) == ("timestamp", {"temp": "Temp.Value"}, ",")
    file.write_text(shown(first))
    assert load(file, {}).input == first.input


def test_what_stands_beside_a_preset_goes_before_it(file: Path) -> None:
    file.write_text("input: {topics: {plant: {preset: telegraf, time_unit: ns}}}\n")
    plant = load(file, {}).input.topics["plant"]
    assert (plant.time_unit, plant.values) == ("ns", "fields")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('time: "@timestamp"', "time: found '@timestamp', expected a JMESPath expression (Unexpected token"),
        ("stream: [id, $hader.x]", "stream.1: found ['id', '$hader.x'], expected $key, $header.NAME, $topic, $time"),
        ("time: $time.x", "time: found '$time.x', expected $time alone"),
        ('time_format: "%d.%m.%Y %H:%M %p"', "expected %I beside %p"),
        ('time_format: "%d.%m.%Y %I:%M"', "expected %p beside %I, or %H"),
        ('time_format: "%d.%m.%Y %H:%M %Z"', "expected a zone beside %Z"),
        ('time_format: "%d.%m. %H:%M"', "expected a format with year, month and day"),
        ('time_format: "%s"', "expected a format that strptime has"),
        ("words: [on]", "expected a mapping of words to numbers"),
        ("words: {on: high}", "expected numbers for words"),
        ("words: {on: .inf}", "expected numbers for words"),
        ('words: {"1,5": 2}', "expected words that are no numbers themselves"),
        ("missing: [on]", "expected numbers or texts; on, off, yes and no need quotes"),
        ("time_zone: Europe/Berln", "expected a time zone such as Europe/Berlin or UTC"),
        ("values: {temp: 3}", "expected a path, or a mapping with a path for each feature"),
        ("preset: telgraf", "expected one of telegraf"),
        ("format: yaml", "expected one of json"),
        ("tombstone: ignore", "unknown, did you mean input.topics.a.b.tombstones?"),
        ("missing: [true]", "expected numbers or texts"),
        ("quality: flag", "good: found nothing, expected the flags of good values"),
        ("message: plant.Reading", "message: found 'plant.Reading', expected none, as format is json"),
        ("message: a.B\n      format: protobuf", "schema_file: found nothing, expected a value, as message has one"),
        ("schema_file: none.avsc", "schema_file: found 'none.avsc', expected a file that can be read"),
        ("good: ok", "quality: found nothing, expected a path, as good has values"),
    ],
)
def test_what_is_wrong_in_a_mapping_is_named_with_its_line(file: Path, line: str, said: str) -> None:
    file.write_text(f"input:\n  topics:\n    a.b:\n      {line}\n")
    with pytest.raises(RefusedSetting) as refused:
        load(file, {})
    message = str(refused.value)
    assert message.startswith("input.topics.a.b.")
    assert said in message
    assert message.endswith(f"({file}, line {3 if 'found nothing' in said else 4})")


def test_a_key_that_is_there_twice_is_refused_within_a_mapping_too(file: Path) -> None:
    file.write_text("input:\n  topics:\n    a:\n      time: x\n      time: y\n")
    with pytest.raises(RefusedSetting, match=r"line 5: found input.topics.a.time again, it is set in line 4 already"):
        load(file, {})


def test_mappings_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELLTALE_INPUT__TOPICS", '{"plant": {"time_unit": "s"}}')
    assert load(None, {}).input.topics["plant"].time_unit == "s"


def test_a_format_that_names_schemas_needs_a_registry(file: Path) -> None:
    file.write_text("input: {topics: {plant: {format: avro}}}\n")
    with pytest.raises(RefusedSetting, match=r"input\.schema_registry_url: expected a registry, as top"):
        load(file, {})
    file.write_text("input: {schema_registry_authorization: Bearer token}\n")
    with pytest.raises(RefusedSetting, match=r"expected none without schema_registry_url"):
        load(file, {})


def test_a_registrys_login_is_a_secret(file: Path) -> None:
    login = file.with_name("login")
    login.write_text("Basic me:sesame-sesame\n")
    file.write_text(
        f"input: {{schema_registry_url: 'https://registry:8081', schema_registry_authorization_file: {login}, "
        "topics: {plant: {format: avro, key_format: avro}}}\n"
    )
    settings = load(file, {})
    assert "sesame-sesame" not in shown(settings) + repr(settings)
    assert "sesame-sesame" in secrets(settings)
    rules = record_rules(settings)
    assert rules.registry is not None
    assert rules.registry.name == "the schema registry https://registry:8081"
    assert rules.mappings["plant"].registry is rules.registry
