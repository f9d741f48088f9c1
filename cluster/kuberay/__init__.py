"""Kubernetes manifests for KubeRay, rendered from the run's own configuration and never edited by hand."""
