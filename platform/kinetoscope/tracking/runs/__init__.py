"""Which run of MLflow is that of a run or step: found, adopted or made, and always the same one."""
