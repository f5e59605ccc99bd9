"""Models: checkpoints, the encoder, tags, heat maps.

Imports `config`, `errors`, `formats`, `imaging`, `models`, `storage`.
"""
