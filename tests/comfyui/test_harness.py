"""The helpers of this folder work: a script runs inside the host, and a server starts, queues and stops."""

from __future__ import annotations

from pathlib import Path

import pytest

from .server import PromptRefused, Server

SCRIPT = """
import json, sys
import comfy.model_management, folder_paths, nodes
print("noise before the answer")
print(json.dumps({"cpu": str(comfy.model_management.get_torch_device()), "args": sys.argv[1:],
                  "base": folder_paths.base_path, "host_nodes": hasattr(nodes, "KSampler")}))
"""


def test_a_script_runs_inside_the_host(run_in_host, tmp_path: Path) -> None:
    script = tmp_path / "probe.py"
    script.write_text(SCRIPT)
    answer = run_in_host(script, "one", 2)
    assert answer["cpu"] == "cpu" and answer["host_nodes"]
    assert answer["args"] == ["one", "2"]
    assert Path(answer["base"]) == tmp_path / "base"


def test_a_failing_script_says_why(run_in_host, tmp_path: Path) -> None:
    script = tmp_path / "probe.py"
    script.write_text("raise ValueError('the reason')")
    with pytest.raises(RuntimeError, match="the reason"):
        run_in_host(script)


def test_a_prompt_runs_and_a_wrong_one_is_refused(server: Server) -> None:
    picture = {
        "class_type": "EmptyImage",
        "inputs": {"width": 32, "height": 16, "batch_size": 1, "color": 255},
    }
    shown = {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}
    with server.listen() as heard:
        result = server.make({"1": picture, "2": shown})
        heard.wait_for("executed")
    image = result.outputs["2"]["images"][0]
    file = server.read(
        f"/view?filename={image['filename']}&type={image['type']}&subfolder={image['subfolder']}"
    )
    assert file.startswith(b"\x89PNG")
    assert heard.of("executing")
    wrong = {**picture, "inputs": {"width": "wide"}}
    with pytest.raises(PromptRefused):
        server.submit({"1": wrong, "2": shown})
    assert server.rss() > 100e6
