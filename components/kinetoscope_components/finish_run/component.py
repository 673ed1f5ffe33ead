"""The exit handler: however the run ended, say so and write its report."""

from kfp import dsl


@dsl.component(base_image="kinetoscope/control-plane", install_kfp_package=False)
def finish_run(job_id: str, resume_of: str) -> str:
    """Note how the run ended and write its report.

    Args:
        job_id: Kubeflow's id of what carried the run.
        resume_of: id of the run that it went on with; empty for a new one.

    Returns:
        The run's state.
    """
    from kinetoscope.runs.tasks.finish_run import finish_run as finish

    return finish(job_id, resume_of)
