"""Copied as sitecustomize.py into a processor-only ComfyUI environment by setup.py.

torchvision's published wheels are built for CUDA cards. Beside a processor-only torch their compiled part does not
load, and torchvision then declares fake kernels for two operators that this part would have defined. They are
defined here, just before torchvision is first imported.
"""

import importlib.abc
import sys


class _DefineOperators(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            sys.meta_path.remove(self)
            import torch

            library = torch.library.Library("torchvision", "FRAGMENT")
            library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            sys._torchvision_operators = library  # kept alive with the process
        return None


sys.meta_path.insert(0, _DefineOperators())
