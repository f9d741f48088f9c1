"""Rows of a dataset on the Hugging Face hub, streamed; the package `datasets` is imported only when one is asked for."""

from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from typing import Any

PREFIX = "hf:"
DEFAULT_SPLIT = "train"


class HubRowsError(ValueError):
    """A dataset that cannot be had from the hub; one line that says what to do."""


def parse_hub_id(address: str) -> tuple[str, str]:
    """Name and split of `hf:owner/name[:split]`.

    >>> parse_hub_id("hf:nebius/SWE-rebench:filtered")
    ('nebius/SWE-rebench', 'filtered')
    """
    name, _, split = address.removeprefix(PREFIX).partition(":")
    if name.count("/") != 1 or not all(name.split("/")):
        raise HubRowsError(f"{address}: expected {PREFIX}owner/name or {PREFIX}owner/name:split")
    return name, split or DEFAULT_SPLIT


def hub_rows(address: str, load: Callable[..., Iterable[Any]] | None = None) -> Iterator[dict[str, Any]]:
    """The rows of `hf:owner/name[:split]`, in the hub's order. Raises HubRowsError.

    `load` stands for `datasets.load_dataset`; it is called with the name, `split` and `streaming=True`.
    """
    name, split = parse_hub_id(address)
    load = load or _load_dataset(address)
    try:
        for row in load(name, split=split, streaming=True):
            yield dict(row)
    except Exception as error:  # datasets, huggingface_hub, httpx and fsspec have no common class of errors
        reason = (" ".join(str(error).split()) or type(error).__name__)[:200]
        raise HubRowsError(
            f"{address}: cannot be read from the hub ({reason}); without network, download the Parquet files and name them"
        ) from error


def _load_dataset(address: str) -> Callable[..., Iterable[Any]]:
    try:
        load: Callable[..., Iterable[Any]] = import_module("datasets").load_dataset
    except ImportError as error:
        raise HubRowsError(f"{address}: needs the package datasets: pip install 'swe-master-ray[hub]'") from error
    return load
