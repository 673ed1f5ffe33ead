"""The first task: the run is on record, and a start of it has begun."""

from kfp import dsl


@dsl.component(base_image="kinetoscope/control-plane", install_kfp_package=False)
def begin_run(job_id: str, config: str, videos: str, resume_of: str, fresh: str, graph: str) -> str:
    """Make the run's records, or find them, and begin a start of it.

    Args:
        job_id: Kubeflow's id of what carries the run.
        config: the resolved config as JSON, or a URI of it.
        videos: URI of the videos.
        resume_of: id of a run that goes on; empty for a new one.
        fresh: names of steps to make anew, by commas.
        graph: of the compiled pipeline: a config of another one is refused.

    Returns:
        URI of the run.
    """
    from kinetoscope.runs.tasks.begin_run import begin_run as begin

    return begin(job_id, config, videos, resume_of, fresh, graph)
