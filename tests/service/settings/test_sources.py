"""Sources: what the YAML file and the environment may hold, and what is refused in them."""

import re
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import RefusedSetting
from service.settings.loading import load
from tests.imports import ROOT
from tests.service.settings.refusals import CANARY, refusal, refusal_of


@pytest.mark.parametrize("number", ["010", "0x1F90", "1:30", "8_080", "-007", "1_0.5", "[1, 010]"])
def test_a_number_that_yaml_reads_in_another_base_than_ten_is_refused(file: Path, number: str) -> None:
    said = refusal_of(file, f"log:\n  level: INFO\nhttp:\n  port: {number}\n")
    assert said.startswith(f"{file}, line 4: found a number that YAML reads in another base than ten")
    assert "write it in decimal, or in quotes" in said


def test_a_name_that_is_a_number_with_a_leading_zero_is_read_in_quotes(file: Path) -> None:
    file.write_text('kafka:\n  instance: "007"\nlimits:\n  stream_ttl_s: 1.5e3\n  max_future_s: .5\n')
    settings = load(file, {})
    assert settings.kafka.instance == "007"
    assert (settings.limits.stream_ttl_s, settings.limits.max_future_s) == (1_500, 0.5)


def test_an_unknown_variable_suggests_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELLTALE_HTTP_PORT", CANARY)
    assert refusal() == "environment variable TELLTALE_HTTP_PORT: unknown, did you mean TELLTALE_HTTP__PORT?"
    monkeypatch.delenv("TELLTALE_HTTP_PORT")
    monkeypatch.setenv("TELLTALE_KAFKA", "{not json")
    assert "TELLTALE_KAFKA: unknown" in refusal()


def test_variables_that_the_tests_are_given_are_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    given = re.findall(r"^export (TELLTALE_\w+)=", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert given
    for name in given:
        monkeypatch.setenv(name, "10")
    load(None, {})


def test_variables_that_kubernetes_makes_of_a_service_named_telltale_are_no_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {
        "TELLTALE_SERVICE_HOST": "10.0.0.1",
        "TELLTALE_SERVICE_PORT_HTTP": "8080",
        "TELLTALE_PORT": "tcp://10.0.0.1:8080",
        "TELLTALE_PORT_8080_TCP_ADDR": "10.0.0.1",
        "TELLTALE_METRICS_PORT": "tcp://10.0.0.2:80",
    }.items():
        monkeypatch.setenv(name, value)
    assert load(None, {}) == load(None, {})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kafka:\n  group: a\n  group: b\n", "line 3: found kafka.group again, it is set in line 2 already"),
        ("kafka:\n  group: a\nkafka:\n  group: b\n", "line 3: found kafka again, it is set in line 1 already"),
        ("a: &a [x, x]\nkafka: *a\n", "line 2: found an alias, write the value itself"),
        ("- kafka\n", "line 1: found no section"),
        ("just words\n", "line 1: found no section"),
        ("kafka: 5\n", "line 1: found a single value as kafka, expected a section with keys below it"),
        ("kafka: [group]\n", "line 1: found a single value as kafka"),
        ("? [kafka]\n: 1\n", "line 1: found a key that is no name"),
        ("kafka:\n\tgroup: a\n", "line 2: not YAML"),
        ("kafka:\n  group: !!python/object:os.system {}\n", "line 2: found a value that YAML cannot read"),
        ("kafka:\n  group: 2024-13-45\n", "line 2: found a value that YAML cannot read, put it in quotes"),
        ("kafka: {}\n---\nhttp: {}\n", "line 2: not YAML"),
        ("checkpoint: " + "[" * 20_000, "nested too deeply"),
        ("checkpoint: \x07\n", "not YAML (bad character)"),
        ("#" * 70_000, "more than 65536 bytes"),
    ],
)
def test_a_file_that_is_no_settings_file_is_refused(file: Path, text: str, message: str) -> None:
    assert message in refusal_of(file, text)


def test_a_file_that_cannot_be_read_is_refused(file: Path, tmp_path: Path) -> None:
    assert refusal(file) == f"{file}: the settings file cannot be read: No such file or directory"
    assert "Is a directory" in refusal(tmp_path)
    file.write_bytes(b"group: \xff\n")
    assert refusal(file) == f"{file}: not UTF-8 at byte 7"


@given(text=st.text(max_size=60))
def test_whatever_the_file_holds_it_is_read_or_refused(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_text(text, newline="", errors="surrogatepass")
    with suppress(RefusedSetting):
        load(file, {})
