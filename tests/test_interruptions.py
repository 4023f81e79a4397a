"""A few of the interruptions of tools/interrupt_at_random.py, whose commands are continued by what they print."""

import random

import forkserver
import pytest
from interrupt_at_random import make_data, survive


@pytest.mark.parametrize(("name", "interruptions"), [("ablation", 2), ("run", 2)])
def test_the_printed_command_leads_to_the_same_results(tmp_path, monkeypatch, forking_python, name, interruptions):
    monkeypatch.setenv("PYTHON", forking_python)
    monkeypatch.setenv("PYTHONPATH", forkserver.INJECTING)  # the small CNN in the place of the ResNet50
    monkeypatch.setenv("SMALL_CNN", "yes")
    make_data(tmp_path)
    lines = list(survive(name, tmp_path, interruptions, random.Random(0)))
    assert sum("after" in line for line in lines) == interruptions and "equal" in lines[-1]
