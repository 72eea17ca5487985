"""The node agent: follows the control plane, keeps workloads, kernel maps and proxy workers in step."""
