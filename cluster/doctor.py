"""Is this machine ready for a run? Every check's finding, with what to do."""

from rich.console import Console
from rich.table import Table

from cluster.finding import Check, Finding
from cluster.machine_checks import MACHINE_CHECKS
from cluster.service_checks import SERVICE_CHECKS
from configs.run_config import RunConfig

CHECKS: tuple[Check, ...] = (*MACHINE_CHECKS, *SERVICE_CHECKS)


def print_checks(config: RunConfig) -> int:
    """Print every finding; 0 when nothing needed is missing, else 1."""
    table = Table("check", "state", "found", "what to do")
    findings = [check(config) for check in CHECKS]
    for finding in findings:
        table.add_row(finding.name, state(finding), finding.found, "" if finding.ok else finding.advice)
    blockers = [finding.name for finding in findings if finding.needed and not finding.ok]
    console = Console()
    console.print(table)
    console.print(f"not ready: {', '.join(blockers)}" if blockers else "ready")
    return 1 if blockers else 0


def state(finding: Finding) -> str:
    """
    >>> state(Finding("GPU", False, False, "none", "")), state(Finding("git", False, True, "not found", "install git"))
    ('optional', 'MISSING')
    """
    return "ok" if finding.ok else ("MISSING" if finding.needed else "optional")
