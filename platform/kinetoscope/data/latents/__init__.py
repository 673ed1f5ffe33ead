"""Cached latents: posterior mean and logvar of planned samples, and the embeddings of their texts.

    shards/00000.safetensors    the tensors of some entries
    shards/00000.json           the shard's record: what it holds, its digest, its statistics
    index.json                  all entries, the shards' digests and the normalisation; written last

A shard counts as done when its record is there and names the same entries, so an interrupted
encoding goes on with the missing ones.
"""
