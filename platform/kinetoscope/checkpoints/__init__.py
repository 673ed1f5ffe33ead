"""The checkpoint format: write, verify, read, prune.

A checkpoint is a folder ``checkpoints/step-00000100-gen-000002/`` in a step's object store:

    weights.safetensors, optimizer.safetensors, ema.safetensors    tensors by parameter name
    index.json                                                     the state, and where tensors lie
    MANIFEST.json                                                  sizes and digests; written last

Without its manifest a checkpoint does not exist. Files are plain safetensors and JSON, whatever the
engine that trained: no pickle is ever written or read.
"""
