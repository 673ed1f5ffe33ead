"""The exit handler: however the run ended, say so and write its report."""

from kfp import dsl


@dsl.component(base_image="kinetoscope/trainer", install_kfp_package=False)
def finish_run(run_uri: str) -> str:
    """Note how the run ended and write its report.

    Args:
        run_uri: where the run keeps its records.

    Returns:
        The run's state.
    """
    from kinetoscope.runs.report import finish_run as finish

    return finish(run_uri)
