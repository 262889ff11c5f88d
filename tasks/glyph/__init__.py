"""The demo's backbone "glyph": a tiny CLIP that has only ever seen printed characters.

`python -m tasks.glyph --output clipcore/embedded/glyph` makes the weights that are shipped.
`render` draws and degrades characters, `captions` names them, `training` makes the two agree.
No handwriting enters: reading it is what the demo adapts to, without labels.
"""
