"""Turn raw videos into a clip table."""

from kfp import dsl


@dsl.component(base_image="kinetoscope/trainer", install_kfp_package=False)
def prepare_data(name: str, job_id: str, resume_of: str) -> str:
    """Turn raw videos into a clip table.

    Args:
        name: the step's name in the run.
        job_id: Kubeflow's id of what carries the run.
        resume_of: id of the run, where it goes on; empty for a new one.

    Returns:
        URI of the step.
    """
    from kinetoscope.runs.tasks.run_step import run_task

    return run_task(name, job_id, resume_of)
