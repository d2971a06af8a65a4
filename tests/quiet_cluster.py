"""A Ray cluster as tests want it."""

from ray.cluster_utils import Cluster


def quiet_cluster(num_cpus: int) -> Cluster:
    """Start a head with so many CPUs, without Ray's dashboard, which is ten processes more."""
    head = {"num_cpus": num_cpus, "include_dashboard": False}
    return Cluster(initialize_head=True, head_node_args=head)
