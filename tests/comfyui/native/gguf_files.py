"""GGUF files as they are published, for the scripts that run inside ComfyUI."""

import gguf
import numpy as np
import torch

Q8 = gguf.GGMLQuantizationType.Q8_0


def write(path, tensors):
    """The weights as published GGUFs hold them: matrices in 8 bits, the rest in float32. Returns what is read back."""
    writer, back = gguf.GGUFWriter(path, "wan"), {}
    for name, value in tensors.items():
        data = value.numpy()
        if data.ndim == 2 and data.shape[1] % 32 == 0:
            packed = gguf.quantize(data, Q8)
            writer.add_tensor(name, packed, raw_dtype=Q8)
            data = gguf.dequantize(packed, Q8)
        elif data.ndim > 4:  # more than the format knows
            writer.add_array(f"comfy.gguf.orig_shape.{name}", list(data.shape))
            writer.add_tensor(name, data.reshape(data.shape[0], -1))
        else:
            writer.add_tensor(name, data)
        back[name] = torch.from_numpy(np.array(data))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return back
