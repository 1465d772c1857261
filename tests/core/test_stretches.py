import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from zoo.core import RecurrentCore, recurrent, stretches
from zoo.core.stretches import plan_stretches

some_lengths = st.lists(st.integers(1, 40), min_size=1, max_size=30).map(lambda row: sorted(row, reverse=True))


@pytest.mark.parametrize("least", [(1, 0), (20, 1 / 16), (256, 1 / 16)], ids=str)
@given(lengths=some_lengths, extra=st.integers(0, 30))
def test_every_step_of_every_row_is_in_one_stretch_and_rows_end_with_one(least, lengths, extra):
    steps = lengths[0] + extra
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stretches, "LEAST_SAVED", least[0])
        patch.setattr(stretches, "LEAST_SHARE", least[1])
        plan = plan_stretches(lengths, steps)
    assert [plan[0].start, *(stretch.stop for stretch in plan)] == [*(stretch.start for stretch in plan), steps]
    for start, stop, rows, ragged in plan:
        assert start < stop
        assert rows == sum(length > start for length in lengths)
        assert ragged == any(length < stop for length in lengths[:rows])
    padding = sum((stop - start) * rows for start, stop, rows, _ in plan) - sum(lengths)
    assert 0 <= padding <= steps * len(lengths) - sum(lengths)
    if least == (1, 0):
        assert padding == 0


def test_a_cut_is_made_only_where_it_saves_enough():
    assert len(plan_stretches([100] * 16 + [90] * 16, 100)) == 1  # 160 steps
    assert plan_stretches([100] * 16 + [84] * 16, 100) == [(0, 84, 32, False), (84, 100, 16, False)]  # 256
    assert len(plan_stretches([10_000] * 16 + [9_999] * 300, 10_000)) == 1  # 300, next to nothing of all


@pytest.mark.parametrize("where", ["padding behind all rows", "rows as long as the batch"])
def test_work_is_on_few_padded_steps(where, monkeypatch):
    """Counted, not timed."""
    lengths = torch.tensor([3, 60, 20, 3] * 8)
    steps = 60 if where == "rows as long as the batch" else 200
    core = RecurrentCore("lstm", 2, 3, 2, bidirectional=True)
    done = []

    def sequence(x, state, weights, lengths):
        done.append(x.shape[0] * x.shape[1])
        return cell(x, state, weights, lengths)

    cell = core.cell.sequence
    run = recurrent.run_in_stretches
    monkeypatch.setattr(recurrent, "run_in_stretches", lambda _, *rest: run(sequence, *rest))
    core(torch.randn(32, steps, 2), None, lengths)
    assert sum(done) == 4 * int(lengths.sum())
