"""What is done with a chunk at each stage, and how it leaves one.

Imports `chunk_spans`, `database`, `encoders`, `listings`, `recovery`.
"""
