"""What is compared takes turns, and no time is thrown away."""

import pytest
import repeated


def test_contenders_take_turns_forwards_and_backwards():
    seen = []
    times = repeated.in_turn({name: lambda name=name: seen.append(name) for name in "abc"}, 3)
    assert "".join(seen) == "abccbaabc"
    assert all(len(times[name].wall) == len(times[name].processor) == 3 for name in "abc")


def test_processor_time_is_that_of_the_work_and_not_of_waiting():
    def work():
        return sum(range(300_000))

    def wait():
        repeated.time.sleep(0.2)

    times = repeated.in_turn({"work": work, "wait": wait}, 2)
    assert all(used > 0 for used in times["work"].processor)
    assert all(used < wall for used, wall in zip(times["wait"].processor, times["wait"].wall, strict=True))


def test_a_row_has_the_median_and_what_lies_around_it():
    found = repeated.figures(repeated.Times([5.0, 1.0, 3.0, 2.0, 4.0], [0.5, 0.1, 0.3, 0.2, 0.4]))
    assert found == {
        "seconds": 3.0,
        "least": 1.0,
        "lower": 2.0,
        "upper": 4.0,
        "most": 5.0,
        "repeats": 5,
        "processor_seconds": 0.3,
    }


def test_what_was_measured_once_has_no_spread():
    assert repeated.figures(repeated.Times([2.0], [1.0])) == {"seconds": 2.0, "repeats": 1, "processor_seconds": 1.0}


def test_a_ratio_is_of_the_same_turn(capsys):
    busy = {"ours": repeated.Times([1.0, 10.0, 1.0], [1.0] * 3), "plain": repeated.Times([2.0, 20.0, 2.0], [3.0] * 3)}
    ours, plain = repeated.rows_beside(busy, "ours", "9 files")
    assert ours["times_of_ours"]["most"] == 1.0
    assert plain["times_of_ours"] == dict.fromkeys(("least", "lower", "median", "upper", "most"), 2.0)
    assert plain["processor_times_of_ours"]["median"] == pytest.approx(3.0)
    assert "2.00 of ours" in capsys.readouterr().out
