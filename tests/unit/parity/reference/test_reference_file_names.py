from __future__ import annotations

from kinetoscope.parity.reference.file_names import reference_path_name


def test_a_prompt_may_lead_out_of_the_folder() -> None:
    assert reference_path_name("out", 0, prompt="/etc/x") == "/etc/x"
