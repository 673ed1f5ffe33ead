"""Is this machine, this pod, the cluster fit to run the pipeline?"""
