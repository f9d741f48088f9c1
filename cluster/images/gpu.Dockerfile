# Head, engine and learner nodes: Ray, CUDA torch, vLLM, DeepSpeed.
# docker build -f cluster/images/gpu.Dockerfile -t swe-master-gpu:0.1.0 .
ARG BASE=rayproject/ray:2.60.0-py311-cu128

FROM ${BASE} AS source
WORKDIR /opt/swe-master
COPY setup.py pyproject.toml README.md LICENSE constraints.txt ./
COPY configs configs
COPY envpool envpool
COPY verifier verifier
COPY trainers trainers
COPY actors actors
COPY cluster cluster

FROM source AS node
USER root
RUN DS_BUILD_OPS=0 pip install --no-cache-dir -c constraints.txt ".[gpu,grade]"
USER ray
WORKDIR /home/ray
