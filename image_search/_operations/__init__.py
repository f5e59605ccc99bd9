"""What the clients' methods do, each once, as what is sent and how the answer is read.

Imports `_answers`, `_bodies`, `_core`, `_handles`, `_progress`, `_runners`, `_sources`, `errors` and
`models`.
"""
