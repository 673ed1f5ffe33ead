"""The checkpoint format: write, verify, read, prune.

A checkpoint is a folder ``checkpoints/step-00000100-gen-000002-save-0001/`` in a step's store:

    weights.safetensors, optimizer.safetensors, ema.safetensors    tensors by parameter name
    index.json                                                     the state, and where tensors lie
    MANIFEST.json                                                  sizes and digests; written last

Which of them count, and which is the newest, only the step's ledger says. Files are plain
safetensors and JSON, whatever the engine that trained: no pickle is ever written or read.
"""
