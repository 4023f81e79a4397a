"""Results of the published programs of HyperIQA and SMART-IQA: REFERENCES of tests/models/test_published.py.

    git clone https://github.com/SSL92/hyperIQA && git clone https://github.com/cny123222/Perceptual-IQA-CS3324
    python3 -m pip install timm==1.0.22
    python3 tools/published_references.py hyperIQA/models.py Perceptual-IQA-CS3324/smart_iqa/models/smart_iqa.py

Computed at commits c42e727 and b7b9751 with torch 2.14 on a CPU. The programs are unchanged but download no
ImageNet weights. Batch norms have the statistics of images(2) in a pass in training mode.
"""

import importlib.util
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent.parent / folder) for folder in ("", "tests", "tests/models")]

import timm  # noqa: E402
import torch  # noqa: E402
from test_published import FUSIONS, digest, images, set_statistics, state_of  # noqa: E402


def load(path: str):
    spec = importlib.util.spec_from_file_location("published", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main(hyperiqa_file: str, smart_iqa_file: str) -> None:
    create = timm.create_model
    timm.create_model = lambda *names, **options: create(*names, **{**options, "pretrained": False})
    hyperiqa, smart_iqa = load(hyperiqa_file), load(smart_iqa_file)
    hyperiqa.model_zoo.load_url = lambda url: {}
    widths = (16, 112, 224, 112, 56, 28, 14, 7)
    models = {"hyperiqa": (hyperiqa, hyperiqa.HyperNet(*widths))}
    for name, (use_multiscale, use_attention) in FUSIONS.items():
        fusion = {"use_multiscale": use_multiscale, "use_attention": use_attention, "model_size": "base"}
        models[f"smart_iqa {name}"] = smart_iqa, smart_iqa.HyperNet(*widths, **fusion)
    for name, (module, model) in models.items():
        model.load_state_dict(state_of(model))
        with torch.no_grad():
            set_statistics(model, lambda model: model(images(2)))
            generated = model(images(2))
            scores = module.TargetNet(generated).eval()(generated["target_in_vec"])
        attention = getattr(model, "last_attention_weights", None)
        count = sum(parameter.numel() for parameter in model.parameters())
        found = (count, digest(model), scores.tolist(), attention.tolist() if attention is not None else None)
        print(f"{name!r}: {found},")


if __name__ == "__main__":
    main(*sys.argv[1:])
