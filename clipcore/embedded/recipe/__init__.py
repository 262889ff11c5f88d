"""The demo's backbone "glyph": a tiny CLIP that has only ever seen printed characters.

`python -m clipcore.embedded.recipe --output clipcore/embedded/glyph` makes the weights that ship.
`render` draws and degrades characters, `captions` names them, `training` makes the two agree.
No handwriting enters: reading it is what the demo adapts to, without labels.
"""
