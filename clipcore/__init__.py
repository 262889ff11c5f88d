"""The science of coft: adapt CLIP to unlabelled images. PyTorch and open_clip only."""
