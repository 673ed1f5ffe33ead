"""Bundle the trained models and enter them in the registry."""

from kfp import dsl


@dsl.component(base_image="kinetoscope/trainer", install_kfp_package=False)
def register_model(name: str, job_id: str, resume_of: str) -> str:
    """Bundle the trained models, register a version, promote it when it beats the champion.

    Args:
        name: the step's name in the run.
        job_id: Kubeflow's id of what carries the run.
        resume_of: id of the run, where it goes on; empty for a new one.

    Returns:
        URI of the step.
    """
    from kinetoscope.runs.tasks.run_step import run_task

    return run_task(name, job_id, resume_of)
