# Nodes that hold sandboxes: Ray, the rollout worker, language servers; no torch, no vLLM.
# docker build -f cluster/images/cpu.Dockerfile -t swe-master-cpu:0.1.0 .
ARG BASE=rayproject/ray:2.60.0-py311

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
RUN apt-get update \
    && apt-get install -y --no-install-recommends bubblewrap git patch procps clangd gopls golang-go nodejs npm \
    && rm -rf /var/lib/apt/lists/* \
    && npm install -g typescript@5.9.3 typescript-language-server@5.3.0
RUN pip install --no-cache-dir -c constraints.txt -r cluster/images/sandbox_requirements.txt \
    && pip install --no-cache-dir --no-deps .
USER ray
WORKDIR /home/ray
