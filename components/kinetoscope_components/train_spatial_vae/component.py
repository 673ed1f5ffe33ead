"""Train the spatial VAE."""

from kfp import dsl


@dsl.component(base_image="kinetoscope/trainer", install_kfp_package=False)
def train_spatial_vae(run_uri: str, name: str, job_id: str, clips: str) -> str:
    """Train the spatial VAE.

    Args:
        run_uri: where the run keeps its records and its resolved config.
        name: the step's name in the run.
        job_id: Kubeflow's id of what carries the run.
        clips: URI of the prepare_data step.

    Returns:
        URI of the step.
    """
    from kinetoscope.runs.tasks.run_step import run_step

    return run_step(run_uri, name, {"clips": clips}, job_id)
