"""Changes to a command: Python runs this file at its start where the folder is in PYTHONPATH.

SMALL_CNN replaces resnet50 by the small CNN; INJECT holds code to run.
"""

import os

if os.environ.get("SMALL_CNN"):
    import small_cnn

    small_cnn.BACKBONES["resnet50"] = small_cnn.in_the_place_of_resnet50()

exec(os.environ.pop("INJECT", ""))
