"""Train one stage of the diffusion transformer."""

from kfp import dsl


@dsl.component(base_image="kinetoscope/trainer", install_kfp_package=False)
def train_dit(  # noqa: PLR0913, PLR0917 - kfp passes each upstream output by itself
    run_uri: str, name: str, job_id: str, clips: str, vae: str, latents: str, previous: str = ""
) -> str:
    """Train one stage of the diffusion transformer.

    Args:
        run_uri: where the run keeps its records and its resolved config.
        name: the step's name in the run, e.g. ``train_dit_1``.
        job_id: Kubeflow's id of what carries the run.
        clips: URI of the prepare_data step.
        vae: URI of the last VAE stage.
        latents: URI of the latent cache.
        previous: URI of the stage before; empty for the first.

    Returns:
        URI of the step.
    """
    from kinetoscope.runs.tasks.run_step import run_step

    inputs = {"clips": clips, "vae": vae, "latents": latents, "previous": previous}
    return run_step(run_uri, name, {key: uri for key, uri in inputs.items() if uri}, job_id)
