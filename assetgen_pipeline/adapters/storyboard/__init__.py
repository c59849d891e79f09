"""Storyboard frames: how the local renderer draws.

`frame` puts one together from `scenery` (the picture), `palette` (its colours) and
`lettering` (the prompt in type). All of it is a function of the request and its references.
"""
