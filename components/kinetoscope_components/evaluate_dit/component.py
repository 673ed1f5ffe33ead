"""Judge the diffusion transformer: loss grid, samples, adherence."""

from kfp import dsl


@dsl.component(base_image="kinetoscope/trainer", install_kfp_package=False)
def evaluate_dit(  # noqa: PLR0913, PLR0917 - kfp passes each upstream output by itself
    run_uri: str, name: str, job_id: str, clips: str, vae: str, latents: str, dit: str
) -> str:
    """Judge the diffusion transformer: loss grid, samples, adherence.

    Args:
        run_uri: where the run keeps its records and its resolved config.
        name: the step's name in the run.
        job_id: Kubeflow's id of what carries the run.
        clips: URI of the prepare_data step.
        vae: URI of the last VAE stage.
        latents: URI of the latent cache.
        dit: URI of the last DiT stage.

    Returns:
        URI of the step.
    """
    from kinetoscope.runs.tasks.run_step import run_step

    return run_step(
        run_uri, name, {"clips": clips, "vae": vae, "latents": latents, "dit": dit}, job_id
    )
