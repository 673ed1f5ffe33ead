"""Train one stage of the video VAE."""

from kfp import dsl


@dsl.component(base_image="kinetoscope/trainer", install_kfp_package=False)
def train_vae(run_uri: str, name: str, job_id: str, clips: str, previous: str = "") -> str:
    """Train one stage of the video VAE.

    Args:
        run_uri: where the run keeps its records and its resolved config.
        name: the step's name in the run, e.g. ``train_vae_2``.
        job_id: Kubeflow's id of what carries the run.
        clips: URI of the prepare_data step.
        previous: URI of the stage before; empty where pretrained weights are the start.

    Returns:
        URI of the step.
    """
    from kinetoscope.runs.tasks.run_step import run_step

    inputs = {"clips": clips, "previous": previous}
    return run_step(run_uri, name, {key: uri for key, uri in inputs.items() if uri}, job_id)
