"""A package that is gone when Load Model is first used, then all its first uses at once in a process that has it."""

import asyncio
import importlib.abc
import json
import sys
import threading

import grounded_forcing


class Gone(importlib.abc.MetaPathFinder):
    """Finds nothing of safetensors."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname.partition(".")[0] == "safetensors":
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)


def tried(call):
    """What a call gave or said."""
    try:
        return str(call())
    except Exception as error:
        return f"{type(error).__name__}: {error}"


async def main():
    """Print what every use said, as JSON."""
    pack = await grounded_forcing.comfy_entrypoint()
    nodes = {node.__name__: node for node in await pack.get_node_list()}
    inputs = {
        one.id: one.default for one in nodes["LoadModel"].define_schema().inputs if hasattr(one, "default")
    }
    uses = {
        "judged": lambda: nodes["LoadModel"].validate_inputs("absent.pt"),
        "loaded": lambda: nodes["LoadModel"].execute(**inputs),
        "foreign": lambda: nodes["PromptTimeline"].execute('{"0": "a fox", "20": "a hen"}'),
    }
    there = {name: one for name, one in sys.modules.items() if name.partition(".")[0] == "safetensors"}
    for name in there:
        del sys.modules[name]
    sys.meta_path.insert(0, Gone())
    missing = {name: tried(use) for name, use in uses.items()}
    sys.meta_path.pop(0)
    sys.modules.update(there)
    said, ready = {}, threading.Barrier(len(uses))

    def use(name):
        ready.wait()
        said[name] = tried(uses[name])

    threads = [threading.Thread(target=use, args=(name,)) for name in uses]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps({"missing": missing, "said": said}))


asyncio.run(main())
