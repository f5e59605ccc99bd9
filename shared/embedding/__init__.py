"""Models: checkpoints, the encoder, tags and heat maps. Imports `imaging` and `storage`."""
