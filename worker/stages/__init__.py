"""What is done with a chunk at each stage, and how it leaves one.

Imports `database`, `encoders`, `listings`, `recovery`.
"""
