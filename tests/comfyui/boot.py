"""Runs one script inside ComfyUI's modules without a server: boot.py COMFYUI BASE SCRIPT [ARGS].

Chooses the CPU and the base directory before any host module can ask for a card or a folder, and puts the host and
BASE/custom_nodes on the path, so that `import comfy`, `import folder_paths` and `import grounded_forcing` work.
The repository itself must never be on the path: its nodes/ would hide the host's module of that name.
"""

import runpy
import sys


def main() -> None:
    comfy, base, script, *rest = sys.argv[1:]
    sys.path[0] = comfy
    sys.path.insert(1, f"{base}/custom_nodes")
    sys.argv = [script, *rest]
    from comfy.cli_args import args

    args.cpu = True
    args.base_directory = base
    import utils  # noqa: F401  early, as in main.py: old hosts' nodes.py hides the package behind comfy/utils.py

    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
