"""The step contract: fingerprint, lease, supervisor, status and committed result.

A step lives at ``<root>/steps/<name>/<fingerprint>/`` in the object store:

    specs/<run>/<start>.json   what to run, written by whoever starts the supervisor
    attempts/000001.json    the attempts; the highest number holds the lease (its generation)
    status.json             state, exit code, reason, progress and heartbeat of the latest attempt
    metrics/000001.jsonl    metric rows of an attempt
    logs/000001/rank-0.log  output of an attempt's ranks
    parts/, checkpoints/    finished work that a later attempt continues from
    outputs/                what downstream steps read
    result.json             the committed result: exists once, never changes
"""
