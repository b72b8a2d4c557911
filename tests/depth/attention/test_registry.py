"""Names, options and marks, as the command line reads them: without torch."""

from __future__ import annotations

import subprocess
import sys

from ablate.depth import attention
from ablate.depth.config import ModelSettings


def test_the_family() -> None:
    assert attention.built_in() == (
        "standard",
        "linear",
        "memory_compressed",
        "memory_compressed_0_0_3",
        "memory_compressed_2d",
        "nystrom",
        "performer",
        "window",
    )
    assert attention.names()[: len(attention.built_in())] == attention.built_in()


def test_names_options_and_marks_are_read_without_torch() -> None:
    code = (
        "import sys; from ablate.depth import attention; "
        "assert attention.options('nystrom') == {'landmarks': 64}; assert attention.as_logged('memory_compressed_0_0_3'); "
        "assert not {'torch', 'timm', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_defaults() -> None:
    assert {name: dict(attention.options(name)) for name in attention.built_in() if attention.options(name)} == {
        "memory_compressed": {"compression": 2, "null_key": False, "zero_padding": False},
        "memory_compressed_0_0_3": {"compression": 2},
        "memory_compressed_2d": {"compression": 2, "null_key": False, "zero_padding": False},
        "nystrom": {"landmarks": 64},
        "performer": {"features": None, "redraw_every": None, "head_dim": None},
        "window": {"window": 8},
    }


def test_only_what_repeats_the_log_is_marked() -> None:
    assert [name for name in attention.names() if attention.as_logged(name)] == ["memory_compressed_0_0_3"]


def test_every_option_is_a_setting_and_what_does_not_apply_is_dropped() -> None:
    assert attention.all_options() <= set(ModelSettings.model_fields)
    given = {"compression": 3, "landmarks": 7, "window": 5, "null_key": True, "features": 9}
    for name in attention.built_in():
        settings = ModelSettings.model_validate({"attention": name, **given})
        for option in attention.all_options():
            if option not in attention.options(name):
                assert getattr(settings, option) == ModelSettings.model_fields[option].default, (name, option)
            elif option in given:
                assert getattr(settings, option) == given[option], (name, option)


def test_callers_cannot_change_what_others_read() -> None:
    dict(attention.options("nystrom"))["landmarks"] = 1
    options = attention.options("nystrom")
    assert isinstance(options, dict)
    options["landmarks"] = 1
    assert attention.options("nystrom") == {"landmarks": 64}
