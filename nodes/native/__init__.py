"""The bridge between ComfyUI's own MODEL, CLIP and VAE and the engine of `gf_core`."""
