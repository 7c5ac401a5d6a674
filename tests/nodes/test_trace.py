"""Which file a MODEL came from, told from the prompt graph; loaded by path, because it needs no ComfyUI."""

import importlib.util
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "nodes" / "native" / "trace.py"
_spec = importlib.util.spec_from_file_location("grounded_trace", SOURCE)
assert _spec is not None and _spec.loader is not None
trace = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(trace)


def node(**inputs):
    return {"class_type": "X", "inputs": inputs}


def test_found_through_loras_and_in_a_subgraph():
    graph = {
        "1": node(unet_name="wan/self_forcing_dmd.safetensors", weight_dtype="default"),
        "2": node(model=["1", 0], lora_name="x.safetensors", strength_model=1.0),
        "5:2": node(model=["2", 0], seed=3),
    }
    assert trace.trace_model_file(graph, "5:2") == "wan/self_forcing_dmd.safetensors"


def test_merges_and_gguf_loaders():
    graph = {
        "1": node(unet_name="a.gguf"),
        "2": node(ckpt_name="b.safetensors"),
        "3": node(model1=["1", 0], model2=["2", 0], ratio=1.0),
        "4": node(model=["3", 0]),
    }
    assert trace.trace_model_file(graph, "4") == "a.gguf"


def test_nothing_to_find():
    assert trace.trace_model_file(None, "1") is None
    assert trace.trace_model_file({"1": node(seed=1)}, "1") is None
    assert trace.trace_model_file({"1": node(model=["9", 0])}, "1") is None


def test_a_loop_ends():
    assert trace.trace_model_file({"1": node(model=["2", 0]), "2": node(model=["1", 0])}, "1") is None


def test_the_users_own_model_name_is_not_the_answer():
    graph = {"1": node(model=["2", 0], model_name="mine"), "2": node(ckpt_name="theirs.pt")}
    assert trace.trace_model_file(graph, "1") == "theirs.pt"
