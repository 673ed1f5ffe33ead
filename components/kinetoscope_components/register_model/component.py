"""Bundle the trained models and enter them in the registry."""

from kfp import dsl


@dsl.component(base_image="kinetoscope/trainer", install_kfp_package=False)
def register_model(  # noqa: PLR0913, PLR0917 - kfp passes each upstream output by itself
    run_uri: str,
    name: str,
    job_id: str,
    clips: str,
    vae: str,
    latents: str,
    dit: str,
    vae_evaluation: str,
    dit_evaluation: str,
) -> str:
    """Bundle the trained models, register a version, promote it when it beats the champion.

    Args: the run's URI, the step's name, Kubeflow's id of what carries the run, and the URIs of
    the upstream steps.

    Returns:
        URI of the step.
    """
    from kinetoscope.runs.tasks.run_step import run_step

    inputs = {"clips": clips, "vae": vae, "latents": latents, "dit": dit}
    judged = {"vae_evaluation": vae_evaluation, "dit_evaluation": dit_evaluation}
    return run_step(run_uri, name, {**inputs, **judged}, job_id)
