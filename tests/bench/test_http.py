"""What `make bench` says that asking takes of judging."""

from tests.bench.http import Window, compared


def test_a_machine_that_slows_down_is_in_both_and_what_asking_takes_is_told() -> None:
    """Twelve asked windows lose 4 % each, while the machine loses half of its speed."""
    speeds = [100_000 * (1 - n / 48) for n in range(25)]
    windows = [Window(speed * (0.96 if n % 2 else 1.0), 10.0, 0.05) for n, speed in enumerate(speeds)]
    *_, lost, processor = compared(windows[::2], windows[1::2])
    assert lost.startswith("  throughput lost      4.0%  (95 %: 4.0% to 4.0%; at most 5%: holds;")
    assert processor.startswith("  more processor       0.0%")


def test_windows_that_differ_too_much_give_no_verdict() -> None:
    windows = [Window(100_000 * (1 - (n % 2) * (n % 3) / 10), 10.0, 0.05) for n in range(25)]
    lost = compared(windows[::2], windows[1::2])[2]
    assert "these windows do not tell" in lost


def test_few_windows_have_no_interval() -> None:
    windows = [Window(100_000, 10.0, 0.05)] * 7
    assert "too few windows for an interval" in compared(windows[::2], windows[1::2])[2]
