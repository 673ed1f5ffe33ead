"""The step contract: fingerprint, lease, supervisor, status and committed result.

A step lives at ``<root>/steps/<name>/<fingerprint>/`` in the object store:

    specs/<run>/<start>.json  what to run, written by whoever starts the supervisor
    ledger/00000001.json    what has happened to it, in one sequence (`steps.ledger`)
    attempts/000001/        of one attempt: status.json, end.json, metrics.jsonl, logs/rank-0.log,
                            and the same of further nodes below nodes/1/; kept/metrics.jsonl is
                            what a checkpoint goes on after
    parts/, checkpoints/    finished work that a later attempt continues from
    outputs/                what downstream steps read
    result.json             a copy of the committed result, which is the ledger's last entry
"""
