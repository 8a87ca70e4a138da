"""Rows of batches.csv hold what a decode counted, and can be summed again."""

import sdvar
from lightning_modules.arms.arm import Arm
from lightning_modules.columns import BATCH_COLUMNS, PART_SECONDS, PER_ROUND
from lightning_modules.predictor import SDVARPredictor
from lightning_modules.run.formats.tables import batch_row, format_rounds, sum_rounds
from tests.lightning_modules.test_predictor import make_batch

NONE = [[0, 0, 0]] * 3


def test_rounds_without_drafts_are_left_out_but_the_first():
    assert format_rounds([[4, 3, 0], [0, 1, 0], [0, 0, 0]]) == "4 3 0;0 1 0"
    assert format_rounds([[0, 0, 0], [0, 1, 0], [0, 0, 0]]) == "0 0 0;0 1 0"
    assert format_rounds(NONE) == "0 0 0"


def test_sums_are_by_round_and_scale():
    texts = ["4 3 0;0 1 4", "0 0 0", "1 1 1;2 2 2;3 3 3"]
    assert sum_rounds(texts) == [[5, 4, 1], [2, 3, 6], [3, 3, 3]]
    assert sum_rounds([format_rounds(NONE)]) == [[0, 0, 0]]


def test_a_row_holds_what_the_decode_counted_and_where_its_time_went(pair):
    predictor = SDVARPredictor(pair, [Arm("speculative", sdvar.Speculative(gamma=2)), Arm("base", sdvar.Baseline())])
    decoded = predictor.predict_step(make_batch(size=8), 0)
    rows = {name: batch_row(0, made) for name, made in decoded.items()}
    assert all(tuple(row) == BATCH_COLUMNS for row in rows.values())
    row = rows["speculative"]
    for rounds, scales in zip(PER_ROUND, ("drafted_scales", "accepted_scales")):
        assert [sum(column) for column in zip(*sum_rounds([row[rounds]]))] == [int(x) for x in row[scales].split()]
    assert sum_rounds([row["drafted_rounds"]])[0][1] == 8  # every image's scale 1 is drafted in its first round
    assert rows["base"]["drafted_rounds"] == "0 0 0 0"
    parts = {name: [float(x) for x in row[name].split()] for name in PART_SECONDS}
    assert all(len(seconds) == 5 for seconds in parts.values())
    assert all(seconds > 0 for seconds in (*parts["target_seconds"][1:4], parts["tokenizer_seconds"][4]))
    assert 0.3 * decoded["speculative"].seconds < sum(map(sum, parts.values())) <= decoded["speculative"].seconds
    assert rows["base"]["draft_seconds"] == "0 0 0 0 0"
