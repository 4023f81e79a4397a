"""Python runs this at its start where this folder is on PYTHONPATH: what a test changes in a command before its own code.

With SMALL_CNN set, what is called resnet50 is the small CNN; INJECT is code.
"""

import os

if os.environ.get("SMALL_CNN"):
    import small_cnn

    small_cnn.BACKBONES["resnet50"] = small_cnn.in_the_place_of_resnet50()

exec(os.environ.pop("INJECT", ""))
