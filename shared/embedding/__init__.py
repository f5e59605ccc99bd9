"""Models and what they compute.

Imports `batching`, `config`, `errors`, `formats`, `imaging`, `metrics`, `models`, `storage`.
"""
