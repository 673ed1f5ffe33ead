"""Tags by which a run of MLflow is found again."""

from __future__ import annotations

RUN_TAG = "kinetoscope.dev/run"
STEP_TAG = "kinetoscope.dev/step"
KEY_TAG = "kinetoscope.dev/step-key"
"""Where the step lives: one that is made anew has another curve."""
PARENT_TAG = "mlflow.parentRunId"
MADE_TAG = "kinetoscope.dev/made-here"
"""On runs that we made; one that we adopted is never deleted."""
