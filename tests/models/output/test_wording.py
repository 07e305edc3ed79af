import pytest

from models.output.wording import compared, counted


@pytest.mark.parametrize(
    ("number", "said"), [(0, "0 streams"), (1, "1 stream"), (2, "2 streams"), (2_000, "2,000 streams")]
)
def test_a_count_agrees_with_its_noun(number: int, said: str) -> None:
    assert counted(number, "stream") == said


def test_a_noun_may_take_more_than_an_s() -> None:
    assert [counted(n, "anomaly", "anomalies") for n in (1, 3)] == ["1 anomaly", "3 anomalies"]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.25, "75 % below that of expecting no change"),
        (0.0, "100 % below that of expecting no change"),
        (1.001, "the same as that of expecting no change"),
        (7.97, "697 % above that of expecting no change"),
        (80.0, "7,900 % above that of expecting no change"),
    ],
)
def test_a_comparison_says_which_way(value: float, said: str) -> None:
    assert compared(value, 1.0, "that of expecting no change") == said


@pytest.mark.parametrize("reference", [0.0, float("nan")])
def test_there_is_no_share_of_nothing(reference: float) -> None:
    assert "nothing to compare with" in compared(1.0, reference, "that of expecting no change")
