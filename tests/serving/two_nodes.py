"""A Ray cluster of two nodes on this machine, until its standard input closes; prints its address."""

from __future__ import annotations

import sys

from ray.cluster_utils import Cluster

if __name__ == "__main__":
    cluster = Cluster(
        initialize_head=True,
        # Any free port for the agents: a node dies with an agent whose fixed port another Ray holds.
        head_node_args={
            "num_cpus": 2,
            "include_dashboard": False,
            "object_store_memory": 100 * 1024 * 1024,
            "dashboard_agent_listen_port": 0,
        },
    )
    cluster.add_node(num_cpus=2, object_store_memory=100 * 1024 * 1024, dashboard_agent_listen_port=0)
    print(f"cluster {cluster.address}", flush=True)
    sys.stdin.read()
    cluster.shutdown()
