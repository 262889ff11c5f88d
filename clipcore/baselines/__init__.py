"""Other ways to adapt CLIP to images: what coft is compared with, behind one contract."""
