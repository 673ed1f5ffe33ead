"""Turn raw videos into a clip table."""

from kfp import dsl


@dsl.component(base_image="kinetoscope/trainer", install_kfp_package=False)
def prepare_data(run_uri: str, name: str, job_id: str) -> str:
    """Turn raw videos into a clip table.

    Args:
        run_uri: where the run keeps its records and its resolved config.
        name: the step's name in the run.
        job_id: Kubeflow's id of what carries the run.

    Returns:
        URI of the step.
    """
    from kinetoscope.runs.tasks.run_step import run_step

    return run_step(run_uri, name, {}, job_id)
