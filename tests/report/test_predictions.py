"""Files of predictions: what is written is read, and faults are named."""

import numpy as np
import pytest

from iqa.predictions import Predictions, read_predictions


@pytest.mark.parametrize("attention", [None, np.full((3, 4), 0.25)])
def test_written_and_read(tmp_path, attention):
    written = Predictions(
        ["b, c.jpg", "a.jpg", "ü.jpg"], np.array([0.1, 1 / 3, 2.0]), np.array([1e-300, 0.5, 3.0]), attention
    )
    (tmp_path / "p.csv").write_text(written.to_csv(), encoding="utf-8")
    again = Predictions.from_csv(written.to_csv())
    assert list(again.names) == list(written.names) and np.array_equal(again.scores, written.scores)
    ordered = read_predictions(tmp_path / "p.csv")
    assert ordered.names == ["a.jpg", "b, c.jpg", "ü.jpg"] and ordered.mos.tolist() == [1 / 3, 0.1, 2.0]
    assert (ordered.attention is None) == (attention is None)
    assert ordered.select([2]).names == ["ü.jpg"]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("image_name,mos\na,1\n", "no column 'score'"),
        ("image_name,mos,score\na,1,2\na,1,2\n", "an image is named twice"),
        ("image_name,mos,score\na,inf,2\n", "mos: 1 of 1 values are not finite"),
        ("image_name,mos,score\na,1\n", "a row is incomplete"),
        ("image_name,mos,score\na,1,x\n", "could not convert"),
    ],
)
def test_a_fault_names_the_file_and_the_way_out(tmp_path, text, named):
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(ValueError, match=named) as caught:
        read_predictions(tmp_path / "p.csv")
    assert "p.csv" in str(caught.value) and "repeat the run" in str(caught.value)
