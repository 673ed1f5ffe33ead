"""The chart's Role for launchers grants just what the doctor says that a run needs."""

from __future__ import annotations

from rendering import MINIMAL, render

from kinetoscope.doctor.cluster.access import LAUNCHER_RULES, rights


def test_the_role_grants_what_a_run_needs_and_nothing_else() -> None:
    roles = [
        item
        for item in render(MINIMAL).kind("Role")
        if item["metadata"]["name"] == "kinetoscope-launcher"
    ]
    granted = {
        (verb, group, resource)
        for rule in roles[0]["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert all(rule.keys() == {"apiGroups", "resources", "verbs"} for rule in roles[0]["rules"])
    assert granted == set(map(tuple, rights(LAUNCHER_RULES)))
