"""Which file a MODEL came from, told from the prompt graph; the module needs no ComfyUI."""

import pytest


@pytest.fixture
def trace(of_pack):
    return of_pack("native.trace")


def node(**inputs):
    return {"class_type": "X", "inputs": inputs}


def test_found_through_loras_and_in_a_subgraph(trace):
    graph = {
        "1": node(unet_name="wan/self_forcing_dmd.safetensors", weight_dtype="default"),
        "2": node(model=["1", 0], lora_name="x.safetensors", strength_model=1.0),
        "5:2": node(model=["2", 0], seed=3),
    }
    assert trace.trace_model_file(graph, "5:2") == "wan/self_forcing_dmd.safetensors"


def test_merges_and_gguf_loaders(trace):
    graph = {
        "1": node(unet_name="a.gguf"),
        "2": node(ckpt_name="b.safetensors"),
        "3": node(model1=["1", 0], model2=["2", 0], ratio=1.0),
        "4": node(model=["3", 0]),
    }
    assert trace.trace_model_file(graph, "4") == "a.gguf"


def test_nothing_to_find(trace):
    assert trace.trace_model_file(None, "1") is None
    assert trace.trace_model_file({"1": node(seed=1)}, "1") is None
    assert trace.trace_model_file({"1": node(model=["9", 0])}, "1") is None


def test_a_loop_ends(trace):
    assert trace.trace_model_file({"1": node(model=["2", 0]), "2": node(model=["1", 0])}, "1") is None


def test_the_users_own_model_name_is_not_the_answer(trace):
    graph = {"1": node(model=["2", 0], model_name="mine"), "2": node(ckpt_name="theirs.pt")}
    assert trace.trace_model_file(graph, "1") == "theirs.pt"
