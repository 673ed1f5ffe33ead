"""Encode the planned clips and captions once, for all DiT stages."""

from kfp import dsl


@dsl.component(base_image="kinetoscope/trainer", install_kfp_package=False)
def encode_latents(
    run_uri: str, name: str, job_id: str, clips: str, vae: str, vae_evaluation: str
) -> str:
    """Encode the planned clips and captions once, for all DiT stages.

    Args:
        run_uri: where the run keeps its records and its resolved config.
        name: the step's name in the run.
        job_id: Kubeflow's id of what carries the run.
        clips: URI of the prepare_data step.
        vae: URI of the last VAE stage.
        vae_evaluation: URI of the VAE's evaluation; its gate comes first.

    Returns:
        URI of the step.
    """
    from kinetoscope.runs.tasks.run_step import run_step

    return run_step(
        run_uri, name, {"clips": clips, "vae": vae, "vae_evaluation": vae_evaluation}, job_id
    )
