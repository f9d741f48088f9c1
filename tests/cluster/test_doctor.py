from cluster.doctor import CHECKS, check_packages, check_python


def test_every_check_gives_a_finding_with_advice() -> None:
    findings = [check() for check in CHECKS]
    assert len({finding.name for finding in findings}) == len(CHECKS)
    assert all(finding.found and (finding.ok or finding.advice) for finding in findings)


def test_the_environment_of_the_tests_is_ready() -> None:
    assert check_python().ok
    assert check_packages().ok
