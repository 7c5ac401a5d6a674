"""What VBench's own Python runs; of this program it knows nothing. Read as text by `vbench`, never imported by it.

Takes a file that says what is wanted (`films` null: whether it could be had), and leaves `answer.json` beside it:
`missing` files, an `error`, or `results`, which are VBench's. Options as in its `evaluate.py` and, for long films,
`vbench2_beta_long/eval_long.py --dev_flag`, which is what its pages have people run.
"""

import json
import os
import socket
import subprocess
import sys
from importlib import import_module

CLIP = "https://openaipublic.azureedge.net/clip/models"
DINO = "https://dl.fbaipublicfiles.com/dino"
VICLIP = "https://huggingface.co/OpenGVLab/VBench_Used_Models/resolve/main"
WEIGHTS = {
    "subject_consistency": [
        (
            "cache",
            "dino_model/facebookresearch_dino_main",
            "https://github.com/facebookresearch/dino (a clone)",
        ),
        (
            "cache",
            "dino_model/dino_vitbase16_pretrain.pth",
            f"{DINO}/dino_vitbase16_pretrain/dino_vitbase16_pretrain.pth",
        ),
        (
            "hub",
            "checkpoints/dino_vitbase16_pretrain.pth",
            f"{DINO}/dino_vitbase16_pretrain/dino_vitbase16_pretrain.pth",
        ),
    ],
    "background_consistency": [
        (
            "cache",
            "clip_model/ViT-B-32.pt",
            f"{CLIP}/40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af/ViT-B-32.pt",
        )
    ],
    "motion_smoothness": [
        ("cache", "amt_model/amt-s.pth", "https://huggingface.co/lalala125/AMT/resolve/main/amt-s.pth")
    ],
    "dynamic_degree": [
        (
            "cache",
            "raft_model/models/raft-things.pth",
            "https://dl.dropboxusercontent.com/s/4j4z58wuv8o0mfz/models.zip (unpacked)",
        )
    ],
    "aesthetic_quality": [
        (
            "cache",
            "clip_model/ViT-L-14.pt",
            f"{CLIP}/b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836/ViT-L-14.pt",
        ),
        (
            "cache",
            "aesthetic_model/emb_reader/sa_0_4_vit_l_14_linear.pth",
            "https://raw.githubusercontent.com/LAION-AI/aesthetic-predictor/main/sa_0_4_vit_l_14_linear.pth",
        ),
    ],
    "imaging_quality": [
        (
            "cache",
            "pyiqa_model/musiq_spaq_ckpt-358bb6af.pth",
            "https://github.com/chaofengc/IQA-PyTorch/releases/download/v0.1-weights/musiq_spaq_ckpt-358bb6af.pth",
        )
    ],
    "overall_consistency": [
        ("cache", "ViCLIP/ViClip-InternVid-10M-FLT.pth", f"{VICLIP}/ViClip-InternVid-10M-FLT.pth"),
        (
            "cache",
            "ViCLIP/bpe_simple_vocab_16e6.txt.gz",
            "https://raw.githubusercontent.com/openai/CLIP/main/clip/bpe_simple_vocab_16e6.txt.gz",
        ),
    ],
}
"""Dimension -> (folder, file in it, where it comes from). `cache` is VBench's own, `hub` that of torch."""
LONG_WEIGHTS = {
    "subject_consistency": [
        ("hub", "facebookresearch_dinov2_main", "https://github.com/facebookresearch/dinov2 (a clone)"),
        (
            "hub",
            "checkpoints/dinov2_vitb14_pretrain.pth",
            "https://dl.fbaipublicfiles.com/dinov2/dinov2_vitb14/dinov2_vitb14_pretrain.pth",
        ),
    ],
    "background_consistency": [
        ("home", "dino_vitb16_lora", "the weights of DreamSim (pip install dreamsim)")
    ],
}
"""The same for what VBench-Long compares clips of a film by; `home` is `~/.cache`."""


def missing(wanted, folders):
    """(file, where it comes from) of all that VBench would fetch."""
    tables = [WEIGHTS, LONG_WEIGHTS] if wanted["long"] else [WEIGHTS]
    needed = [entry for name in wanted["dimensions"] for table in tables for entry in table.get(name, [])]
    paths = [(os.path.join(folders[root], *name.split("/")), source) for root, name, source in needed]
    return [[path, source] for path, source in paths if not os.path.exists(path)]


def refuse_to_fetch():
    """Whatever is not in the tables fails in words in place of being fetched."""

    def no_connection(*_, **__):
        raise OSError("it wanted to fetch something")

    socket.create_connection = socket.socket.connect = no_connection
    run = subprocess.run

    def no_fetching(command, *rest, **options):
        if command[0] in ("wget", "curl", "git"):
            raise OSError(f"it wanted to fetch something: {' '.join(command)}")
        return run(command, *rest, **options)

    subprocess.run = no_fetching


def options_of(long_folder):
    """What `eval_long.py --dev_flag` passes on."""
    configs = os.path.join(long_folder, "configs")
    return {
        "sb_clip2clip_feat_extractor": "dinov2",
        "bg_clip2clip_feat_extractor": "dreamsim",
        "clip_length_config": "clip_length_mix.yaml",
        "w_inclip": 1.0,
        "w_clip2clip": 0.0,
        "use_semantic_splitting": False,
        "slow_fast_eval_config": os.path.join(configs, "slow_fast_params.yaml"),
        "dev_flag": True,
        "sb_mapping_file_path": os.path.join(configs, "subject_mapping_table.yaml"),
        "bg_mapping_file_path": os.path.join(configs, "background_mapping_table.yaml"),
        "num_of_samples_per_prompt": 5,
        "static_filter_flag": False,
    }


def evaluate(wanted):
    """The answer to what is wanted."""
    import torch

    package = import_module("vbench")
    cache = import_module("vbench.utils").CACHE_DIR
    home = os.path.join(os.path.expanduser("~"), ".cache")
    lacking = missing(wanted, {"cache": cache, "hub": torch.hub.get_dir(), "home": home})
    if lacking:
        return {"missing": lacking}
    options = {"imaging_quality_preprocessing_mode": "longer"}
    judge, mode = package.VBench, "custom_input"
    if wanted["long"]:
        long_films = import_module("vbench2_beta_long")
        judge, mode = long_films.VBenchLong, "long_custom_input"
        options.update(options_of(os.path.dirname(str(long_films.__file__))))
    if wanted["films"] is None:  # it is only asked whether it could
        return {"results": {}}
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    facts = os.path.join(os.path.dirname(str(package.__file__)), "VBench_full_info.json")
    refuse_to_fetch()
    judge(device, facts, wanted["out"]).evaluate(
        videos_path=wanted["films"],
        name="grounded",
        prompt_list=wanted["prompts"],
        dimension_list=wanted["dimensions"],
        local=True,
        mode=mode,
        **options,
    )
    with open(os.path.join(wanted["out"], "grounded_eval_results.json"), encoding="utf-8") as file:
        return {"results": json.load(file)}


def main(path):
    """Answer the file at `path`."""
    with open(path, encoding="utf-8") as file:
        wanted = json.load(file)
    try:
        answer = evaluate(wanted)
    except Exception as error:  # it is told on the other side
        answer = {"error": f"{type(error).__name__}: {error}"}
    with open(os.path.join(os.path.dirname(path), "answer.json"), "w", encoding="utf-8") as file:
        json.dump(answer, file)


if __name__ == "__main__":
    main(sys.argv[1])
